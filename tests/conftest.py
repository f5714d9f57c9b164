"""What tests share: markers, nothing of the caller's environment, and fresh databases of both kinds.

pytest-xdist runs them in several processes. What these share, a Postgres server, is in one folder, which the process
that was started by hand makes at the start and removes at the end.
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import Ran, Run
from databases import Copied, NewDatabase
from filelock import FileLock
from hypothesis import HealthCheck, settings
from made_index import Large, with_tail_and_tombstones
from memory_source import MemorySource
from opened_page import TIMEOUT_MS, Open, Visit, listening_browser, make_voice, serving
from postgres import NoServerError, running, stop

from e2vsearch.vectors.faiss.index import FaissEngine

REPOSITORY = Path(__file__).resolve().parent.parent

_SHARED = pytest.StashKey[Path]()
TAKE_LONG = ("slow", "browser")
# what UMAP compiles for the first map of a process takes it six seconds
LAY_OUT_MAPS = tuple(f"tests/test_{name}.py" for name in ("docs", "tutorial", "cli_tables", "page_map"))
_numbers = itertools.count(1)

# on a busy machine an example takes seconds, which is no fault of the code under test
settings.register_profile("beside other work", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beside other work")


# --- the run


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--at-least``: a run in which most tests skip, or are not found, must not pass for a good one."""
    parser.addoption("--at-least", type=int, default=0, metavar="N", help="fail unless N tests passed")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # a shell starts its background jobs so, and the processes of tests would inherit it: no Ctrl-C would end them
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None:
        config.stash[_SHARED] = Path(worker["shared"])
        return
    # not pytest's tmp_path: the path of a socket in it may have 107 characters at most
    folder = Path(tempfile.mkdtemp(prefix="e2vsearch-tests-"))
    folder.chmod(0o711)  # the server of root's tests runs as nobody
    config.stash[_SHARED] = folder


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the shared folder is."""
    node.workerinput["shared"] = str(node.config.stash[_SHARED])


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and _SHARED in config.stash:
        stop(config.stash[_SHARED])
        shutil.rmtree(config.stash[_SHARED], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs Postgres, torch, a browser or UMAP, by what a test asks for."""
    for item in items:
        for name in _needs(item):
            item.add_marker(name)
    if hasattr(config, "workerinput"):  # what takes longest comes first, else one process ends long after the others
        slow = Counter(_together(item.nodeid) for item in items if any(map(item.get_closest_marker, TAKE_LONG)))
        every = Counter(_together(item.nodeid) for item in items)
        items.sort(key=lambda item: (-slow[_together(item.nodeid)], -every[_together(item.nodeid)]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores: a third of what the longest tests take is waiting for servers and browsers."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile``: a file in one process, and so are files that share what takes long to make."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _together(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def _together(nodeid: str) -> str:
    """What runs in one process, one after another."""
    path = nodeid.partition("::")[0]
    if path.startswith("tests/test_vectors"):  # several of these files ask for `large`
        return "vectors"
    if path.startswith("tests/engines/"):  # these ask for a Milvus server, which is busy when nobody asks it anything
        return "engines"
    return "UMAP" if path.startswith("tests/maps/") or path in LAY_OUT_MAPS else path


def _needs(item: pytest.Item) -> Iterator[str]:
    fixtures = set(getattr(item, "fixturenames", ()))
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if "postgres_url" in fixtures or "postgres" in (parameters.get(name) for name in DATABASES):
        yield "postgres"
    reasons = [mark.kwargs.get("reason", "") for mark in item.iter_markers("skipif")]
    if any("'emotion2vec' extra" in reason for reason in reasons):
        yield "torch"
    if "visit" in fixtures:
        yield "browser"
    if "umap" in fixtures:
        yield "slow"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and _passed(session.config) < session.config.getoption("--at-least"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    wanted, passed = config.getoption("--at-least"), _passed(config)
    if passed < wanted:
        terminalreporter.write_line(f"{passed} tests passed, and {wanted} should have: what is skipped, and why? (-rs)")


def _passed(config: pytest.Config) -> int:
    """How many tests passed, of all workers; a worker of pytest-xdist has no report of its own."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return sys.maxsize if reporter is None else len(reporter.stats.get("passed", []))


# --- surroundings


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


# --- databases

DATABASES = ("database_url", "empty_database_url")
TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """The URL of the running server's ``postgres`` database; skips, with the reason, where there is none."""
    pytest.importorskip("psycopg", reason="the 'postgres' extra is not installed")
    try:
        return running(request.config.stash[_SHARED]).format(name="postgres")
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres_template(request: pytest.FixtureRequest, postgres_url: str) -> str:
    """The name of a database with the tables and no row: a copy takes 30 ms where migrations take 150."""
    from e2vsearch.catalog import upgrade
    from e2vsearch.catalog.database import connect

    folder = request.config.stash[_SHARED]
    with FileLock(folder / "template.lock"):
        if not (folder / TEMPLATE).exists():
            with _asking(postgres_url) as ask:
                ask(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
            engine = connect(_named(postgres_url, TEMPLATE))
            upgrade.upgrade(engine)
            engine.dispose()  # nobody may be connected to what is copied
            (folder / TEMPLATE).touch()
    return TEMPLATE


@pytest.fixture
def postgres_database(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[NewDatabase]:
    """Makes databases, empty or copies of a template, which are dropped at the end; gives their URLs."""
    names: list[str] = []
    with _asking(postgres_url) as ask:

        def make(template: str = "template0") -> str:
            names.append(f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}_{next(_numbers)}")
            ask(f"CREATE DATABASE {names[-1]} TEMPLATE {template}")
            return _named(postgres_url, names[-1])

        yield make
        for name in names:
            ask(f"DROP DATABASE {name} WITH (FORCE)")  # FORCE: a failed test may leave a connection


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database without tables, for tests of the schema itself."""
    return _new_database(request, tmp_path, migrated=False)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database with nothing in it: a test that takes it runs on SQLite and on Postgres.

    In Postgres the tables are there already; SQLite's file is made when it is opened, which takes 30 ms.
    """
    return _new_database(request, tmp_path, migrated=True)


@pytest.fixture(scope="session")
def made_databases() -> dict[tuple[str, str], str]:
    """What `copied` copies: the folder of a SQLite file, or the name of a database of Postgres."""
    return {}


@pytest.fixture
def copied(
    request: pytest.FixtureRequest,
    database_url: str,
    made_databases: dict[tuple[str, str], str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Copied:
    """Gives the test's database what a function fills one with, given its URL: once for all tests of a module."""

    def copied(fill: Callable[[str], object]) -> str:
        key = (request.module.__name__, database_url.partition(":")[0])
        if database_url.startswith("sqlite"):
            if key not in made_databases:
                folder = tmp_path_factory.mktemp("made")
                fill(f"sqlite:///{folder / 'catalog.db'}")
                made_databases[key] = str(folder)
            shutil.copytree(made_databases[key], tmp_path, dirs_exist_ok=True)
            return database_url
        postgres_url: str = request.getfixturevalue("postgres_url")
        with _asking(postgres_url) as ask:
            if key not in made_databases:
                made = f"made_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}_{next(_numbers)}"
                ask(f"CREATE DATABASE {made} TEMPLATE {request.getfixturevalue('postgres_template')}")
                fill(_named(postgres_url, made))
                made_databases[key] = made
            name = database_url.partition("?")[0].rpartition("/")[2]
            ask(f"DROP DATABASE {name}")
            ask(f"CREATE DATABASE {name} TEMPLATE {made_databases[key]}")
        return database_url

    return copied


def _new_database(request: pytest.FixtureRequest, folder: Path, *, migrated: bool) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'catalog.db'}"
    make: NewDatabase = request.getfixturevalue("postgres_database")
    return make(request.getfixturevalue("postgres_template")) if migrated else make()


def _named(postgres_url: str, name: str) -> str:
    return postgres_url.replace("/postgres?", f"/{name}?")


@contextmanager
def _asking(postgres_url: str) -> Iterator[Callable[[str], object]]:
    import psycopg

    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection.execute


# --- audio, the command line, indexes


@pytest.fixture(scope="session")
def large_emotion2vec(request: pytest.FixtureRequest) -> Path:
    """A model folder of the published large shape, 650 MB of random weights, written once for all processes."""
    from random_emotion2vec import write_model

    folder = request.config.stash[_SHARED] / "emotion2vec_plus_large"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            write_model(folder.with_suffix(".part"), "large").rename(folder)
    return folder


@pytest.fixture
def shared_audio() -> Path:
    """Folder of real recordings and labelled corpora, laid beside some checkouts and never part of one."""
    folder = REPOSITORY.parent / "shared" / "audio"
    if not folder.is_dir():
        pytest.skip("needs the real recordings of ../shared/audio")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
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

    yield run
    logger = logging.getLogger("e2vsearch")  # a process of its own would have ended, and its log with it
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    """An index with lists, built once for all tests that change nothing."""
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


# --- the page


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voice(tmp_path_factory.mktemp("voice"))


@pytest.fixture(scope="module")
def chromium(voice: Path) -> Iterator[Any]:
    with listening_browser(voice) as browser:
        yield browser


@pytest.fixture(scope="module")
def address(index: Path) -> Iterator[str]:
    """The address of a service on the module's ``index``."""
    with serving(index) as url:
        yield url


@pytest.fixture
def visit(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens the page; at the end nothing may have gone wrong in it, nor been asked of anyone else."""
    for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        pytest.importorskip(package, reason="the 'serve' extra is not installed")
    chromium = request.getfixturevalue("chromium")
    visits: list[Visit] = []

    def open_page(at: str = "", address: str | None = None, **context: Any) -> Visit:
        url = address or request.getfixturevalue("address")
        page = chromium.new_context(**{"locale": "en-GB", "permissions": ["microphone"], **context}).new_page()
        page.set_default_timeout(TIMEOUT_MS)
        visit = Visit(page, url)
        visits.append(visit)
        visit.expected.append("GL Driver Message")  # of WebGL by the CPU: that it is slow
        page.on("console", lambda said: visit.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on(
            "request",
            lambda sent: None if sent.url.startswith((url, "blob:")) else visit.errors.append(f"asked {sent.url}"),
        )
        page.goto(url + at)
        return visit

    yield open_page
    for each in visits:
        each.page.context.close()
    wrong = [error for each in visits for error in each.errors if not any(part in error for part in each.expected)]
    assert wrong == []
