"""Names that are imported when they are used, for tests of large packages.

Each process of pytest-xdist collects every file and runs some of them: torch alone takes each process two seconds.
"""

from __future__ import annotations

import importlib
import os
from typing import Any


class _Late:
    """A module, or what a module has under a name."""

    def __init__(self, module: str, name: str | None) -> None:
        self._where = module, name

    def _found(self) -> Any:
        module, name = self._where
        loaded = importlib.import_module(module)
        return loaded if name is None else getattr(loaded, name)

    def __getattr__(self, name: str) -> Any:
        if "PYTEST_CURRENT_TEST" not in os.environ:  # pytest and its plugins look at every name while they collect
            raise AttributeError(name)
        return getattr(self._found(), name)

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        return self._found()(*arguments, **more)


def late(module: str, name: str | None = None) -> Any:
    """That module, or what it has under that name, imported when something of it is used."""
    return _Late(module, name)
