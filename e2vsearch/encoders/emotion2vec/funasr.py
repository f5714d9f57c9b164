"""The classes of FunASR that emotion2vec is made of are imported alone, and in silence.

``funasr/__init__`` imports all of its submodules: some 400 of its own and 3,000 of others, 300 MB and 4 s, or 15 s on a
busy machine, and it hides those that fail (FunASR 1.4.16). emotion2vec needs eighteen, half a second and 15 MB. Those
are imported under a stand-in for the package, which is gone again afterwards, and they with it: whoever imports FunASR
in the same process gets the whole of it, whose models register themselves only when they are imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from e2vsearch.errors import EncoderUnavailable, first_line

_PACKAGE = "funasr"
_LOCK = threading.RLock()
_kept: dict[str, ModuleType] = {}  # what was imported under the stand-in, itself included


@dataclass(frozen=True, slots=True)
class Classes:
    """What FunASR registers as ``model: Emotion2vec`` and as tokenizers of single characters."""

    network: type[Any]
    tokenizers: Mapping[str, type[Any]]


@contextmanager
def classes() -> Iterator[Classes]:
    """Import FunASR's classes, which import more of FunASR while objects are made of them inside.

    They are imported alone, unless the process has imported FunASR already.

    Raises:
        EncoderUnavailable: FunASR, or something that it needs, cannot be imported.
    """
    try:
        with _LOCK, nullcontext() if sys.modules.get(_PACKAGE) is not None else _alone():
            network = importlib.import_module(f"{_PACKAGE}.models.emotion2vec.model")
            tokenizer = importlib.import_module(f"{_PACKAGE}.tokenizer.char_tokenizer")
            yield Classes(network.Emotion2vec, {"CharTokenizer": tokenizer.CharTokenizer})
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
    stand_in = ModuleType(_PACKAGE)
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules.update(_kept or {_PACKAGE: stand_in})
    try:
        yield
    finally:
        _kept.update({name: module for name, module in sys.modules.items() if name.partition(".")[0] == _PACKAGE})
        for name in _kept:
            sys.modules.pop(name, None)


@contextmanager
def silenced() -> Iterator[None]:
    """Drop what this thread prints, logs and warns inside: FunASR's notices, and those of the hubs' clients.

    Other threads still print and log meanwhile; only their warnings are lost, since the filters belong to the whole
    process.
    """
    output, errors = _Muted(sys.stdout), _Muted(sys.stderr)
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    handlers = [handler for logger in (logging.root, *loggers) for handler in logger.handlers]
    ours = threading.get_ident()

    def of_other_threads(record: logging.LogRecord) -> bool:
        return record.thread != ours

    with warnings.catch_warnings(), redirect_stdout(cast(Any, output)), redirect_stderr(cast(Any, errors)):
        warnings.simplefilter("ignore")
        for handler in handlers:
            handler.addFilter(of_other_threads)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(of_other_threads)
            output.muted = errors.muted = False


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
