"""The classes of FunASR that emotion2vec is made of. Knows how FunASR is imported, nothing of weights.

``funasr/__init__`` imports all of its submodules: some 400 of its own and 3,000 of others, 300 MB and 4 s, or 15 s on a
busy machine, and it hides those that fail (FunASR 1.4.16). emotion2vec needs eighteen, half a second and 15 MB. Those
are imported under a stand-in for the package, which is gone again afterwards, and they with it: whoever imports FunASR
in the same process gets the whole of it, whose models register themselves only when they are imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from e2vsearch.encoders._emotion2vec_folder import first_line
from e2vsearch.errors import EncoderUnavailable

_PACKAGE = "funasr"
_LOCK = threading.RLock()
_kept: dict[str, ModuleType] = {}  # what was imported under the stand-in, itself included

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Classes:
    """What FunASR registers as ``model: Emotion2vec`` and as tokenizers of single characters."""

    network: type[Any]
    tokenizers: Mapping[str, type[Any]]


def using_classes(make: Callable[[Classes], _Made]) -> _Made:
    """What `make` makes of FunASR's classes, which import more of FunASR while they are made.

    They are imported by themselves; where that fails, `make` is called again with those of FunASR as a whole, and with
    these to begin with where somebody has imported it already.

    Raises:
        EncoderUnavailable: FunASR, or something that it needs, cannot be imported.
    """
    with _LOCK:
        if sys.modules.get(_PACKAGE) is None:
            with suppress(ImportError, OSError), _alone():  # another version may not like it
                return make(_by_name())
        try:
            return make(_by_name())
        except (ImportError, OSError) as error:  # a torchaudio that does not fit is an OSError
            raise EncoderUnavailable(
                f"FunASR is installed but cannot be imported: {first_line(error)}; "
                "pip install 'e2vsearch[emotion2vec]' setuptools, and uninstall torchaudio"
            ) from error


@contextmanager
def _alone() -> Iterator[None]:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{_PACKAGE} is no package")
    sys.modules.update(_kept or {_PACKAGE: _StandIn(_PACKAGE, list(spec.submodule_search_locations))})
    try:
        yield
    finally:
        _kept.update({name: module for name, module in sys.modules.items() if name.partition(".")[0] == _PACKAGE})
        for name in _kept:
            sys.modules.pop(name, None)


def _by_name() -> Classes:
    network = importlib.import_module(f"{_PACKAGE}.models.emotion2vec.model")
    tokenizer = importlib.import_module(f"{_PACKAGE}.tokenizer.char_tokenizer")
    return Classes(network.Emotion2vec, {"CharTokenizer": tokenizer.CharTokenizer})


class _StandIn(ModuleType):
    """The package without its ``__init__``. A thread that meets it meanwhile waits, and gets what the real one has."""

    def __init__(self, name: str, path: list[str]) -> None:
        super().__init__(name)
        self.__path__ = path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        with _LOCK:
            if sys.modules.get(_PACKAGE) is self:  # one of its own modules wants it: it is not to be had alone
                raise AttributeError(name)
            return getattr(importlib.import_module(_PACKAGE), name)
