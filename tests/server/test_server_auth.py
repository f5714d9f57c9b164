"""Who may ask a service: this machine, who has the key, and options that make no sense."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi import FastAPI
from gated_service import client_of

import e2vsearch
from e2vsearch.errors import MissingExtra, SettingsError
from e2vsearch.server import create_app, require_packages
from e2vsearch.server.options import ServiceOptions


@pytest.fixture(scope="module")
def apps(place: Path) -> Iterator[dict[str, FastAPI]]:
    """Two applications that are only ever asked who may ask them."""
    with e2vsearch.open(place, encoder="fake", create=True) as collection:
        apps = {key: create_app(collection, ServiceOptions(api_key=key or None)) for key in ("", "secret key")}
        yield apps
        for app in apps.values():
            app.state.server.reading.close()


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8080", None, 200),
        ("localhost", None, 200),
        ("LOCALHOST:80", None, 200),
        ("[::1]:8080", None, 200),
        ("127.8.9.1", None, 200),
        ("localhost:8080", "http://localhost:8080", 200),
        ("localhost", "http://localhost", 200),
        ("localhost:80", "http://LOCALHOST", 200),
        ("[::1]:8080", "http://[::1]:8080", 200),
        ("localhost:8080", "http://127.0.0.1:8080", 403),
        ("localhost:8080", "http://localhost:5173", 403),  # another service of this machine
        ("localhost:8080", "http://localhost", 403),
        ("localhost", "ftp://localhost", 403),
        ("evil.example", None, 403),
        ("127.0.0.1.evil.example:8080", None, 403),
        ("0.0.0.0:8080", None, 403),
        ("192.168.1.5:8080", None, 403),
        ("", None, 403),
        ("[::1", None, 403),
        ("127.0.0.1:80.evil", None, 403),
        ("127.0.0.1:", None, 403),
        ("127.0.0.1:8080:8080", None, 403),
        ("[::1]evil", None, 403),
        ("[::1]:80evil", None, 403),
        ("me@127.0.0.1", None, 403),
        ("127.0.0.1/evil", None, 403),
        ("[:", None, 403),
        ("localhost:8080", "https://evil.example", 403),
        ("localhost:8080", "http://localhost.evil.example", 403),
        ("localhost:8080", "null", 403),
        ("localhost:8080", "http://[", 403),
        ("localhost:8080", "", 403),
    ],
)
async def test_without_a_key_only_this_machine_may_ask(
    apps: dict[str, FastAPI], host: str, origin: str | None, status: int
) -> None:
    headers = {"Host": host, **({"Origin": origin} if origin is not None else {})}
    async with client_of(apps[""]) as client:
        for path in ("/status", "/healthz", "/"):
            assert (await client.get(path, headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)]
)
@pytest.mark.parametrize("key", ["", "secret key"])
async def test_a_page_from_elsewhere_embeds_nothing(apps: dict[str, FastAPI], key: str, site: str, status: int) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "X-API-Key": key}
    async with client_of(apps[key]) as client:
        for path in (
            "/status",
            "/segments/1/audio",
            "/recordings/1/audio?xsha256=",
            "/recordings/1/peaks",
            "/segments/1",
        ):
            response = await client.get(path, headers=headers)
            assert response.status_code == status, path
            assert status == 200 or response.json()["error"]["reason"] == "origin"
        for path in ("/", "/healthz", "/docs"):  # any page may link to these
            assert (await client.get(path, headers=headers)).status_code == 200


async def test_a_map_plays_what_it_knows_the_hash_of(apps: dict[str, FastAPI], place: Path) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "audio"}
    with e2vsearch.open(place) as collection:
        recording = collection.recordings("call:1")[0]
        segment = next(iter(collection.segments("call:1"))).id
    for path in ("/recordings/call:1/audio", f"/segments/{segment}/audio"):
        async with client_of(apps[""]) as client:
            response = await client.get(path, params={"sha256": recording.content_sha256[:16]}, headers=headers)
            assert response.status_code == 200
            assert response.headers["cross-origin-resource-policy"] == "cross-origin"
            assert (await client.get(path)).headers["cross-origin-resource-policy"] == "same-origin"
            for guessed, status in (("0" * 16, 403), (recording.content_sha256[:15], 422), ("", 422)):
                response = await client.get(path, params={"sha256": guessed}, headers=headers)
                assert response.status_code == status
            method = await client.post(path, params={"sha256": recording.content_sha256[:16]}, headers=headers)
            assert method.status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer secret key"}, 200),
        ({"Authorization": "bearer secret key"}, 200),
        ({"X-API-Key": "secret key"}, 200),
        ({"Authorization": "Bearer secret"}, 401),
        ({"Authorization": "Basic secret key"}, 401),
        ({"Authorization": "secret key"}, 401),
        ({"X-API-Key": "secret key "}, 200),  # white space around a header's value is not part of it
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": "Secret key"}, 401),
        ({"X-API-Key": "secret keyé".encode("latin-1").decode("latin-1")}, 401),
    ],
)
async def test_with_a_key_who_has_it_may_ask(apps: dict[str, FastAPI], headers: dict[str, str], status: int) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    async with client_of(apps["secret key"], "http://calls.example.org") as client:
        response = await client.get("/status", headers=encoded)  # type: ignore[arg-type]
        assert response.status_code == status
        if status == 401:
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["reason"] == "key"


async def test_with_a_key_only_the_page_and_health_are_open(apps: dict[str, FastAPI]) -> None:
    async with client_of(apps["secret key"], "http://calls.example.org") as client:
        for path in ("/", "/healthz", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        document = (await client.get("/openapi.json")).json()
        for path, operations in document["paths"].items():
            for method in operations:
                response = await client.request(method, path.replace("{id}", "1"))
                assert response.status_code == (200 if path == "/healthz" else 401), path
                secured = [] if path == "/healthz" else [{"bearer": []}, {"key": []}]  # type: ignore[var-annotated]
                assert operations[method].get("security", []) == secured
        for path in ("/nothing", "/healthz/", "/status?/healthz"):
            assert (await client.get(path)).status_code == 401


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(ServiceOptions(api_key="secret key"))


@pytest.mark.parametrize(
    "options",
    [{"api_key": " "}, {"max_upload_mb": 0}, {"max_audio_s": float("nan")}, {"timeout_s": float("inf")},
     {"header_s": 0}, {"body_s": -1}, {"queue": -1}, {"threads": -1}],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        ServiceOptions(**options)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client", "python_multipart"])
def test_a_missing_package_is_named_with_its_cure(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'e2vsearch\[serve\]'"):
        require_packages()
