"""Files are decoded in processes of their own, which are started when first needed and used for many files.

FFmpeg and libsndfile are a million lines of C, and recordings come from anywhere. What a made-up one does to them, a
crash, a gigabyte or an endless loop, ends a process that has limits (see `child`) and nothing to lose: it gets an open
file and a name to use in messages, and an environment without secrets. The file fails with one line.

Windows has no limits of this kind (`resource`), and cannot hand over an open file; there, and in frozen programs,
whose executable is no Python, files are decoded in this process.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch import errors
from e2vsearch.audio import decode, protocol
from e2vsearch.audio.decode import AudioInfo
from e2vsearch.audio.protocol import Message, ProtocolError
from e2vsearch.audio.sources import RANGE_BYTES, Source, descriptor_of
from e2vsearch.errors import AudioError, AudioUnreadable, Cancelled
from e2vsearch.settings import cores

if TYPE_CHECKING:
    import subprocess

ISOLATED = bool(
    os.name == "posix" and hasattr(socket, "send_fds") and sys.executable and not getattr(sys, "frozen", False)
)
"""Whether files are decoded in processes of their own."""

_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from e2vsearch.audio.child import main; main()"
_KINDS = {kind.__name__: kind for kind in AudioError.__subclasses__()}
_KEPT_VARIABLES = ("LD_", "DYLD_", "LC_", "LANG", "PYTHONHOME")  # where shared libraries are, and nothing else
_LOOK_S = 0.1  # how soon it is seen that `stop` returns true
_CLOSE_S = 2.0  # a block takes 0.01 s to decode, but a busy machine may not get to it at once, as to a new process
_WAIT_S = 60.0  # for another recording to end, where too many are open
_ENDING: list[subprocess.Popen[bytes]] = []  # killed and not gone yet; looked at when another one is started


class DecoderPool:
    """The processes that decode for this one; safe to use from several threads, and after a fork."""

    def __init__(self, most: int, kept: int) -> None:
        """Start nothing yet.

        Args:
            most: processes at a time; further sources wait.
            kept: processes that are kept while they have nothing to do.
        """
        self._most = most
        self._kept = kept
        self._reset()
        if ISOLATED:
            atexit.register(self.close)
            os.register_at_fork(after_in_child=self._forget)

    def prepare(self, library: str) -> None:
        """Start a process, if there is none, that imports a library while this one does other things."""
        if not ISOLATED:
            return
        with self._changed:
            if self._all:
                return
            self._idle.append(self._started(library))

    def take(self, library: str, stop: Callable[[], bool]) -> DecoderProcess:
        """Return a process that has nothing to do, started if need be.

        Raises:
            AudioError: none can be started, or too many are in use for too long.
            Cancelled: `stop` returned true.
        """
        until = time.monotonic() + _WAIT_S
        with self._changed:
            while True:
                while self._idle:
                    process = self._idle.pop()
                    if process.alive:
                        return process
                    self._all.discard(process)
                    process.end()
                if len(self._all) < self._most:
                    return self._started(library)
                if stop():
                    raise Cancelled
                if time.monotonic() > until:
                    raise AudioError(f"{self._most} recordings are open already: close some of them first")
                self._changed.wait(_LOOK_S)

    def give_back(self, process: DecoderProcess) -> None:
        """Keep a process for the next source, unless it is spent, has not answered, or enough are kept."""
        with self._changed:
            if process not in self._all:  # closed, or of the process that this one was forked from
                return
            kept = process.reusable and len(self._idle) < self._kept
            if kept:
                self._idle.append(process)
            else:
                self._all.discard(process)
            self._changed.notify()
        if not kept:
            process.end()

    def close(self) -> None:
        """End all processes."""
        with self._changed:
            ended = list(self._all)
            self._idle.clear()
            self._all.clear()
        for process in ended:
            process.end()

    def _started(self, library: str) -> DecoderProcess:
        process = DecoderProcess(library)
        self._all.add(process)
        return process

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[DecoderProcess] = []
        self._all: set[DecoderProcess] = set()

    def _forget(self) -> None:
        """After a fork: the processes are the parent's."""
        for process in self._all:
            process.disown()
        self._reset()


class DecoderProcess:
    """One process that decodes, for one source at a time."""

    def __init__(self, library: str) -> None:
        """Start it.

        Raises:
            AudioError: the system starts no more processes.
        """
        import subprocess

        _ENDING[:] = [each for each in _ENDING if each.poll() is None]
        ours, theirs = socket.socketpair()
        path = [os.path.abspath(each) for each in sys.path if each]  # noqa: PTH100 - text
        here = os.path.dirname(os.path.dirname(os.path.abspath(errors.__file__)))  # noqa: PTH100, PTH120
        kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT_VARIABLES)}
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-S", "-s", "-P", "-c", _CODE,
                 str(theirs.fileno()), library, json.dumps([*path, here])],
                pass_fds=[theirs.fileno()],
                env={**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # and not ours: some decoders print warnings
                stderr=None if os.environ.get("E2VSEARCH_DEBUG") else subprocess.DEVNULL,
                process_group=0,  # Ctrl-C goes to a whole group, and would end it before it can ignore that
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise AudioError(
                f"no process to decode audio can be started ({error.strerror}): end other programs, or raise ulimit -u"
            ) from error
        finally:
            theirs.close()
        ours.settimeout(_LOOK_S)
        self._connection = ours
        self._ready = self._answered = False
        self._spent = False

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def reusable(self) -> bool:
        """Whether it has answered all that it was asked, and may be asked again."""
        return self._answered and not self._spent

    def ask(
        self,
        name: str,
        kind: bytes,
        fields: dict[str, Any],
        stop: Callable[[], bool],
        descriptor: int | None = None,
        read: Callable[[int, int], bytes] | None = None,
    ) -> Message:
        """Return its answer.

        Args:
            name: of the source, for messages.
            kind: of the request.
            fields: of the request.
            stop: whether the answer is wanted no more.
            descriptor: of the open file that the request is about.
            read: returns bytes of that file, where there is no descriptor.

        Raises:
            AudioError: what went wrong, there or with it, or with `read`.
            Cancelled: `stop` returned true.
        """
        self._answered = False
        try:
            protocol.send(self._connection, kind, fields, descriptor=descriptor)
            message = self._answer(stop, read)
        except (ProtocolError, OSError) as error:
            raise self._lost(name) from error
        self._answered = True
        self._spent |= bool(message.fields.get("spent"))
        if message.kind == protocol.ERROR:
            raise _KINDS.get(str(message.fields.get("kind")), AudioUnreadable)(str(message.fields.get("message")))
        return message

    def end(self) -> None:
        """End it at once: it holds nothing that matters."""
        import subprocess

        self._connection.close()
        self._process.kill()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:  # it waits for a network share, and is gone as soon as that answers
            _ENDING.append(self._process)

    def disown(self) -> None:
        """Leave it to the process that started it."""
        self._connection.close()
        self._process.returncode = 0

    def _answer(self, stop: Callable[[], bool], read: Callable[[int, int], bytes] | None) -> Message:
        while True:
            message = protocol.receive(_Watched(self._connection, stop))
            if message.kind == protocol.READ and read is not None:
                position, count = int(message.fields["position"]), int(message.fields["count"])
                protocol.send(self._connection, protocol.BYTES, data=read(position, min(count, RANGE_BYTES)))
                continue
            if message.kind == protocol.WARNING:
                logging.getLogger(str(message.fields.get("logger"))).warning("%s", message.fields.get("message"))
            elif message.kind == protocol.READY:
                self._ready = True
            else:
                return message

    def _lost(self, name: str) -> AudioError:
        with suppress(Exception):
            self._process.wait(1.0)
        code = self._process.poll()
        if not self._ready:
            return AudioError(
                f"the process that decodes audio has not started (exit code {code}): e2vsearch doctor checks the "
                "installation, and E2VSEARCH_DEBUG=1 shows why"
            )
        if code == -signal.SIGXCPU:
            return AudioUnreadable(
                f"{name} takes longer to decode than any recording does: it is damaged, or made to do so - export it "
                "again, as WAV"
            )
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return AudioUnreadable(f"{name} made its decoder crash ({how}): it is damaged - export it again, as WAV")


class ProcessDecoder:
    """A source that is open in another process: as a `decode.Decoder`."""

    def __init__(self, process: DecoderProcess, source: Source, stop: Callable[[], bool]) -> None:
        self._process = process
        self._name = source.name
        self._stop = stop
        self._read = source.ranges
        self._open = True
        asked = {"name": source.name, "size": source.size, "suffix": source.suffix}
        try:
            with descriptor_of(source) as descriptor:
                described = process.ask(source.name, protocol.OPEN, asked, stop, descriptor, self._read).fields
        except AudioError:
            self._open = False
            raise
        duration_s = described.get("duration_s")
        self.info = AudioInfo(
            int(described["channels"]),
            int(described["sampling_rate_hz"]),
            None if duration_s is None or not math.isfinite(duration_s) else float(duration_s),
            str(described["format"]),
        )

    def blocks(self, start: int = 0) -> Iterator[NDArray[np.float32]]:
        """Blocks of about a second, ``(samples, channels)``, from sample `start` on."""
        request, fields = protocol.BEGIN, {"start": start}
        while True:
            if not self._open:
                raise AudioError(f"{self._name} is closed: read it while it is open")
            try:
                message = self._process.ask(self._name, request, fields, self._stop, read=self._read)
            except AudioError:
                self._open = False
                raise
            if message.kind == protocol.DONE:
                self._open = False
                return
            yield np.frombuffer(message.data, np.float32).reshape(-1, self.info.channels)
            request, fields = protocol.NEXT, {}

    def close(self) -> None:
        """Have the process close the file; one that does not within a moment is not used again."""
        asked, self._open = self._open and self._process.reusable, False
        if asked:
            until = time.monotonic() + _CLOSE_S
            with suppress(AudioError, Cancelled):
                nothing = None if self._read is None else lambda _position, _count: b""  # not worth a request now
                self._process.ask(self._name, protocol.CLOSE, {}, lambda: time.monotonic() > until, read=nothing)


@contextmanager
def open_decoder(source: Source, stop: Callable[[], bool] = lambda: False) -> Iterator[ProcessDecoder | decode.Decoder]:
    """Open the decoder for a source, in another process where there are such.

    Args:
        source: what is decoded; not to be read meanwhile.
        stop: asked ten times a second; once it returns true, `Cancelled` is raised.

    Raises:
        AudioError: as `decode.open_decoder`.
        AudioUnreadable: it crashed its decoder, or took more memory or time than a recording does.
    """
    if not ISOLATED:
        with decode.open_decoder(source, stop) as here:
            yield here
        return
    process = POOL.take(decode.module_for(source.suffix), stop)
    decoder: ProcessDecoder | None = None
    try:
        decoder = ProcessDecoder(process, source, stop)
        yield decoder
    finally:
        try:
            if decoder is not None:
                decoder.close()
        finally:
            POOL.give_back(process)


class _Watched:
    """A socket that is read until `stop` returns true."""

    def __init__(self, connection: socket.socket, stop: Callable[[], bool]) -> None:
        self._connection = connection
        self._stop = stop

    def recv(self, count: int) -> bytes:
        """Return up to so many bytes."""
        while True:
            with suppress(TimeoutError):
                return self._connection.recv(count)
            if self._stop():
                raise Cancelled

    def recv_into(self, buffer: memoryview) -> int:
        """Fill a buffer, and return how far."""
        while True:
            with suppress(TimeoutError):
                return self._connection.recv_into(buffer)
            if self._stop():
                raise Cancelled


POOL = DecoderPool(most=max(32, 8 * cores()), kept=max(4, 2 * cores()))
"""Of this process. As many are in use as recordings are open at a time: one for each thread that loads or serves, and a
service has two of these a core."""
