"""The HTTP API keeps to its own OpenAPI document: schemathesis asks everything the document allows, and more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

import e2vsearch
from e2vsearch.server import create_app
from e2vsearch.server.options import ServiceOptions

KEY = "a key that is long enough"
LOCAL = {"Host": "127.0.0.1"}  # schemathesis asks for "testserver", which is no loopback name

# a schema cannot say which bytes are audio, which filters parse, which path lies in a root or which vector has the
# collection's dimension: that a request fits it does not mean that it succeeds
EXCLUDED = ("positive_data_acceptance",)

EXAMPLES = {"with-key": 10, "without-key": 3}  # of each operation and mode: without a key they are the same operations

SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _schema(place: Path, key: str | None) -> Iterator[Any]:
    with e2vsearch.open(place, encoder="fake", create=True) as collection:
        app = create_app(collection, ServiceOptions(api_key=key, roots=(place.parent / "calls",), timeout_s=20))
        held = threading.Event()  # tasks are started, and wait: a map would be made for half a minute
        app.state.server.tasks.start("map", lambda _: str(held.wait()))
        try:
            yield schemathesis.openapi.from_asgi("/openapi.json", app, headers=LOCAL)
        finally:
            held.set()
            app.state.server.close()


def ask_everything(schema: Any, headers: dict[str, str], examples: int) -> dict[str, set[int]]:
    """Every operation, with requests that fit the document and requests that do not; gives the statuses of each."""
    left_out = [check for check in schemathesis.checks.CHECKS.get_all() if check.__name__ in EXCLUDED]
    statuses: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        seen = statuses.setdefault(operation.label, set())
        for mode in schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE:
            asked = _asking(operation.as_strategy(generation_mode=mode), headers, left_out, seen, examples)
            with suppress(Unsatisfiable):  # nothing about this operation can be got wrong
                asked()
    return statuses


def _asking(
    cases: Any, headers: dict[str, str], left_out: list[Any], seen: set[int], examples: int
) -> Callable[[], None]:
    @settings(SETTINGS, max_examples=examples)
    @given(case=cases)
    def asked(case: Any) -> None:
        seen.add(case.call_and_validate(headers=headers, excluded_checks=left_out).status_code)

    return asked


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_api_keeps_to_its_document(place: Path, kind: str) -> None:
    key = KEY if kind == "with-key" else None
    headers = LOCAL if key is None else {**LOCAL, "Authorization": f"Bearer {key}"}
    with contextmanager(_schema)(place, key) as schema:
        statuses = ask_everything(schema, headers, EXAMPLES[kind])
    assert len(statuses) > 20
    assert all(statuses.values())
    listed = ("GET /status", "GET /recordings", "GET /filters", "GET /labels", "GET /map", "GET /healthz")
    assert all(200 in statuses[name] for name in listed)
    assert 404 in statuses["GET /segments/{id}/audio"]
    assert 422 in statuses["POST /query"]
