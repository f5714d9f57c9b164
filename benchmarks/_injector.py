"""Faults in forked processes: a shim before libc kills, tears, fills up or breaks at the N-th call that writes.

The benchmark starts itself again with the shim loaded. Each trial is a fork of that process, which has imported all
that commands need: 0.05 s, where a fresh interpreter takes half a second.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
MODES = ("off", "count", "kill", "torn", "ENOSPC", "EIO")
"""As `_faults.c` numbers them: nothing, count calls, kill at a call, write half of it and kill, or let it fail."""

LIMIT_S = 120.0
"""Of one command."""

CANNOT = 77  # exit code of a benchmark that cannot run here
_PRELOADED = (
    "e2vsearch.cli", "e2vsearch.collection", "e2vsearch.ingest.runner", "e2vsearch.vectors.faiss.index", "faiss",
    "e2vsearch.transfer.export", "e2vsearch.transfer.import_", "e2vsearch.transfer.embeddings",
    "e2vsearch.encoders.fake",
    "e2vsearch.analysis.labels.train", "e2vsearch.analysis.labels.classifier_file", "e2vsearch.analysis.projections",
    "e2vsearch.catalog.filters", "e2vsearch.pipeline", "e2vsearch.speech.vad", "e2vsearch.audio.decode",
    "e2vsearch.ingest.queue", "e2vsearch.ingest.worker", "typer._adapters", "pydantic",
    "alembic.command", "alembic.config", "filelock", "soundfile", "soxr", "av", "onnxruntime",
    "sklearn.linear_model", "sklearn.model_selection", "rich.table", "rich.console",
)  # fmt: skip
_SOURCE = Path(__file__).with_name("_faults.c")
_LOADED = "E2VSEARCH_FAULTS"


@dataclass(frozen=True, slots=True)
class Fault:
    """The kind of fault, and the number of the call at which it is injected."""

    mode: str
    call: int = 0
    from_then_on: bool = False

    def __str__(self) -> str:
        return f"{self.mode} at call {self.call}{' and after' if self.from_then_on else ''}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a forked process ended."""

    code: int  # its exit code, or the negative number of its signal
    out: str
    err: str
    calls: int  # that wrote, where they were counted
    struck: bool  # a call was made to fail
    limit: bool = False  # it took too long


def ready() -> None:
    """Return with the shim loaded and the processes' threads bounded to one; starts this program again for that."""
    if os.environ.get(_LOADED):
        return
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        print("no faults can be injected here: that takes Linux and a C compiler (gcc or cc)")
        sys.exit(CANNOT)
    folder = Path(tempfile.mkdtemp(prefix="e2vsearch-faults-"))
    shim = folder / "faults.so"
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", shim, _SOURCE, "-ldl"], capture_output=True, text=True, check=False
    )
    if made.returncode:
        print(f"no faults can be injected here: {compiler} does not compile the shim: {made.stderr.strip()[:300]}")
        sys.exit(CANNOT)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "LD_PRELOAD": str(shim), _LOADED: str(folder), "PYTHONWARNINGS": "ignore"}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def preload() -> None:
    """Import what commands load when they run, so that every fork has it."""
    from importlib import import_module

    for name in _PRELOADED:
        with suppress(ImportError):
            import_module(name)


def clear() -> None:
    """Remove the shim."""
    shutil.rmtree(os.environ[_LOADED], ignore_errors=True)


def command(words: Sequence[str], folder: Path, fault: Fault | None = None) -> Ended:
    """Run ``e2vsearch WORDS`` in a fork, in a folder, with a fault at a call that writes below it."""

    def run() -> int:
        from e2vsearch.cli import main

        sys.argv = ["e2vsearch", *words]
        try:
            main()
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return 0

    return _forked(run, folder, fault)


def apart(function: Callable[[], T], folder: Path) -> T:
    """Return what a function gives in a fork.

    Raises:
        RuntimeError: it raised an error, or died.
    """
    result = folder / ".result"

    def run() -> int:
        result.write_bytes(pickle.dumps(function()))
        return 0

    ended = _forked(run, folder, None)
    if ended.code:
        raise RuntimeError(f"ended with {ended.code}: {ended.err.strip()[-400:]}")
    value: T = pickle.loads(result.read_bytes())
    result.unlink()
    return value


def _forked(run: Callable[[], int], folder: Path, fault: Fault | None) -> Ended:
    scratch = Path(os.environ[_LOADED])
    files = [scratch / name for name in ("out", "err", "calls")]
    for file in files:
        file.write_bytes(b"")
    pid = os.fork()
    if pid == 0:
        _child(run, folder, fault, files)  # does not return
    status, late = _waited(pid)
    out, err, calls = (file.read_text(encoding="utf-8", errors="replace") for file in files)
    number, struck = (int(each) for each in (calls or "0 0").split())
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, out, err, number, struck > 0, late)


def _child(run: Callable[[], int], folder: Path, fault: Fault | None, files: list[Path]) -> None:
    code = 70
    try:
        for number, file in enumerate(files[:2], start=1):
            descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC)
            os.dup2(descriptor, number)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - the process's own
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        os.chdir(folder)
        shim = ctypes.CDLL(None)
        if fault is not None:
            shim.faults_arm(
                str(folder).encode(), MODES.index(fault.mode), ctypes.c_long(fault.call), int(fault.from_then_on)
            )
        code = run()
        calls, struck = shim.faults_calls(), shim.faults_struck()
        shim.faults_arm(b"/", 0, ctypes.c_long(0), 0)
        files[2].write_text(f"{calls} {struck}")
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _waited(pid: int) -> tuple[int, bool]:
    until = time.monotonic() + LIMIT_S
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, False
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1], True
        time.sleep(0.002)
