"""Keeps FunASR to itself. Knows what it disturbs in a process, nothing of models.

Building a `funasr.AutoModel` seeds the random generators of Python, numpy and torch with 0, calls
`logging.basicConfig` and `torch.set_num_threads`, and prints and logs throughout (FunASR 1.4.16,
``auto/auto_model.py``). A library that is asked for a vector may do none of that to its caller.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, cast

import numpy as np


@contextmanager
def undisturbed() -> Iterator[None]:
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
