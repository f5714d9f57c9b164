"""The classes of FunASR that emotion2vec is made of. Knows how FunASR is imported, nothing of weights.

``funasr/__init__`` imports all of its submodules: some 400 of its own and 3,000 of others, 300 MB and 4 s, or 15 s on a
busy machine, and it hides those that fail (FunASR 1.4.16). emotion2vec needs eighteen, half a second and 15 MB. Those
are imported under a stand-in for the package, which is gone again afterwards, and they with it: whoever imports FunASR
in the same process gets the whole of it, whose models register themselves only when they are imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np

from e2vsearch.errors import EncoderUnavailable, first_line

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


@contextmanager
def silenced() -> Iterator[None]:
    """Whatever runs inside leaves the process as it found it, and this thread prints, logs and warns nothing.

    Put back: the states of three random generators (and of CUDA's, once in use), torch's thread count, the root
    logger's handlers and level, the warning filters. Other threads still print and log meanwhile; only their warnings
    are lost, since the filters belong to the whole process.
    """
    output, errors = _Muted(sys.stdout), _Muted(sys.stderr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with redirect_stdout(cast(Any, output)), redirect_stderr(cast(Any, errors)), _logging_kept():
            import torch

            python, numpy, seeded = random.getstate(), np.random.get_state(), torch.get_rng_state()
            cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
            threads = torch.get_num_threads()
            try:
                yield
            finally:
                random.setstate(python)
                np.random.set_state(numpy)
                torch.set_rng_state(seeded)
                if cuda is not None:
                    torch.cuda.set_rng_state_all(cuda)
                if torch.get_num_threads() != threads:
                    torch.set_num_threads(threads)
                output.muted = errors.muted = False


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch computes with `count` threads inside, 0 for what it has been using."""
    import torch

    before = torch.get_num_threads()
    if count < 1 or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _logging_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    loggers = [root, *(each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger))]
    hearing = [handler for logger in loggers for handler in logger.handlers]  # ModelScope's has a handler of its own
    ours = threading.get_ident()

    def of_other_threads(record: logging.LogRecord) -> bool:
        return record.thread != ours

    for handler in hearing:
        handler.addFilter(of_other_threads)
    try:
        yield
    finally:
        for handler in hearing:
            handler.removeFilter(of_other_threads)
        root.handlers[:] = handlers
        root.setLevel(level)


class _Muted:
    """A stream that drops what the thread that made it writes, for as long as it is muted.

    Loggers made meanwhile may hold on to it, so that it must go on writing afterwards.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._thread = threading.get_ident()
        self.muted = True

    def write(self, text: str) -> int:
        if self._stream is None or (self.muted and threading.get_ident() == self._thread):
            return len(text)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
