"""A Postgres server for a benchmark: the one of the tests."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

CHECKOUT = Path(__file__).resolve().parent.parent


def from_tests(name: str) -> ModuleType:
    """Return a helper of the tests."""
    folder = str(CHECKOUT / "tests")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


@contextmanager
def server() -> Iterator[str]:
    """Run a server on a Unix socket; yields the URL of a database of it, with ``{name}`` to be filled in.

    Raises:
        SystemExit: there is none to be had.
    """
    postgres = from_tests("postgres")
    with tempfile.TemporaryDirectory(prefix="e2v") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # the server runs as nobody where this is root
        try:
            yield postgres.running(folder)
        except postgres.NoServerError as error:
            raise SystemExit(f"needs Postgres: {error}") from error
        finally:
            postgres.stop(folder)
