"""What tests share: nothing of the caller's environment, and fresh databases of both kinds."""

from __future__ import annotations

import io
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from command import Ran, Run
from made_index import Large, with_tail_and_tombstones
from memory_source import MemorySource
from postgres import NoServerError, server

from e2vsearch.vectors.faiss.index import FaissEngine

REPOSITORY = Path(__file__).resolve().parent.parent

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root: tests run elsewhere."""
    return REPOSITORY


@pytest.fixture(autouse=True, scope="session")
def no_cache_of_the_callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What fixtures of whole modules keep in a cache stays out of the caller's, and tests after them do not read it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting, cache, e2vsearch.toml or ``index/`` of the caller's reaches a test, nor does a test reach theirs."""
    for name in os.environ:
        if name.startswith("E2VSEARCH_"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))
    paths = [str(REPOSITORY), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(os.path.abspath(path) for path in paths))  # noqa: PTH100 - text
    monkeypatch.chdir(home)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a running server's ``postgres`` database; skips, with the reason, where there is none."""
    pytest.importorskip("psycopg", reason="the 'postgres' extra is not installed")
    pytest.importorskip("sqlalchemy")
    with ExitStack() as stack:
        try:
            url = stack.enter_context(server())
        except NoServerError as error:
            pytest.skip(str(error))
        yield url.format(name="postgres")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh, empty database: a test that takes it runs on SQLite and on Postgres."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'catalog.db'}"
        return
    postgres_url = request.getfixturevalue("postgres_url")
    import psycopg

    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield postgres_url.replace("/postgres?", f"/{name}?")
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # FORCE: a failed test may leave a connection


@pytest.fixture
def shared_audio() -> Path:
    """Folder of real recordings and labelled corpora, laid beside some checkouts and never part of one."""
    folder = REPOSITORY.parent / "shared" / "audio"
    if not folder.is_dir():
        pytest.skip("needs the real recordings of ../shared/audio")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Types ``e2vsearch ARGUMENTS...``, with `stdin` to read."""
    from e2vsearch.cli import main

    def run(*arguments: object, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["e2vsearch", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    """An index with lists, built once for the tests of a module that change nothing."""
    return Large(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="module", params=[None, "flat", "ivf-rabitq"])
def any_index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FaissEngine, MemorySource]:
    """An index of each sort; tests that take it change nothing."""
    return with_tail_and_tombstones(request.param, tmp_path_factory.mktemp("any"))


@pytest.fixture
def other_url(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a second empty database of the same kind."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'other.db'}"
        return
    import psycopg

    postgres_url = request.getfixturevalue("postgres_url")
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE other TEMPLATE template0")
        try:
            yield postgres_url.replace("/postgres?", "/other?")
        finally:
            connection.execute("DROP DATABASE other WITH (FORCE)")
