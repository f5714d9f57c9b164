"""The process that decodes: FFmpeg and libsndfile run here, with limits, and no secrets, databases or paths.

It is started by `pool`, asked over a socket, and handed open files. What goes wrong in it, a crash or a bomb of a file,
ends this process and no other.

It has no network where Linux allows that, a gigabyte of address space, of which what it imports takes a quarter and the
index of an hour of AAC 5 MB, no files to write and no core dump; and ten seconds of processor time for each block, of
which a sound recording takes 0.05, and one of 32 channels at 768 kHz 0.3.
"""

from __future__ import annotations

import ctypes
import io
import logging
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import protocol
from e2vsearch.audio.decode import open_decoder, too_large
from e2vsearch.audio.sources import RANGE_BYTES, RangedFile, Source
from e2vsearch.errors import AudioError

MEMORY_BYTES = 1 << 30
PROCESSOR_S = 10
"""For one block; for the first one more, as long as it lies far into a recording."""

_SKIPPED_S = 500.0  # of audio that are passed over undecoded in a second, at least
_OPEN_FILES = 64
_SPENT_BYTES = 256 << 20  # a process that took so much is not used again: it would not give the memory back
_BLOCK_S = 1.0


def main() -> None:
    """Decode what the socket whose descriptor is the first argument asks for, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group, and is the other process's to answer
    connection = socket.socket(fileno=int(sys.argv[1]))
    _leave_network()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    for name in sys.argv[2:]:  # what the first file will need
        with suppress(ImportError):
            __import__(name)
    logger = logging.getLogger("e2vsearch.audio")
    logger.addHandler(_Forwarding(connection))
    logger.propagate = False
    with suppress(protocol.ProtocolError, OSError):  # the other process has ended
        protocol.send(connection, protocol.READY)
        while True:
            descriptors: list[int] = []
            message = protocol.receive(connection, descriptors)
            if message.kind == protocol.OPEN and len(descriptors) <= 1:
                requests, size = _Requests(connection), message.fields["size"]
                with os.fdopen(descriptors[0], "rb") if descriptors else requests.file(size) as file:
                    source = Source(message.fields["name"], file, size, message.fields["suffix"])
                    _answer(connection, requests, source)


def gathered(blocks: Iterator[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    """Yield the same samples in blocks of that many, or fewer where these would not fit into one message."""
    held: list[NDArray[np.float32]] = []
    count = 0
    for block in blocks:
        most = max(1, min(size, protocol.BLOCK_BYTES // (4 * block.shape[1])))
        held.append(block)
        count += len(block)
        if count >= most:
            whole = np.ascontiguousarray(np.concatenate(held), np.float32)
            for at in range(0, count - count % most, most):
                yield whole[at : at + most]
            held, count = [whole[count - count % most :]], count % most
    if count:
        yield np.ascontiguousarray(np.concatenate(held), np.float32)


class _Requests:
    """The requests about one source, and the bytes of it that come between them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._held: list[protocol.Message] = []

    def next(self) -> protocol.Message:
        """Return the next request."""
        return self._held.pop() if self._held else protocol.receive(self._connection)

    def file(self, size: int) -> io.BufferedReader:
        """Return a file whose bytes the other process has."""
        return io.BufferedReader(RangedFile(size, self._read), RANGE_BYTES)

    def _read(self, position: int, count: int) -> bytes:
        protocol.send(self._connection, protocol.READ, {"position": position, "count": count})
        while (message := protocol.receive(self._connection)).kind != protocol.BYTES:
            if self._held:
                raise protocol.ProtocolError("two requests at a time")
            self._held.append(message)
        return bytes(message.data)


def _answer(connection: socket.socket, requests: _Requests, source: Source) -> None:
    """Decode one source, as far as it is asked for."""
    kind = protocol.DONE
    fields: dict[str, str | bool] = {}
    try:
        _allow(PROCESSOR_S)
        with open_decoder(source) as decoder:
            info = decoder.info
            protocol.send(connection, protocol.INFO, asdict(info))
            request = requests.next()
            if request.kind == protocol.BEGIN:
                start = int(request.fields["start"])
                _allow(PROCESSOR_S + math.ceil(start / info.sampling_rate_hz / _SKIPPED_S))
                blocks = gathered(decoder.blocks(start), max(1, round(_BLOCK_S * info.sampling_rate_hz)))
                block = next(blocks, None)
                while block is not None and request.kind != protocol.CLOSE:
                    data = memoryview(block.data).cast("B")
                    protocol.send(connection, protocol.SAMPLES, {"channels": block.shape[1]}, data)
                    _allow(PROCESSOR_S)
                    block = next(blocks, None)  # one ahead of what is asked for
                    request = requests.next()
    except AudioError as error:
        kind, fields = protocol.ERROR, {"kind": type(error).__name__, "message": str(error)}
    except MemoryError:
        too_much = too_large(source.name)
        kind, fields = protocol.ERROR, {"kind": type(too_much).__name__, "message": str(too_much), "spent": True}
    protocol.send(connection, kind, {"spent": _peak_bytes() > _SPENT_BYTES} | fields)


def _peak_bytes() -> int:
    """Return the most memory that this process has had at a time.

    On Linux `getrusage` counts what the process that started this one had when it forked: beside a model, gigabytes.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _leave_network() -> None:
    """Move to a network of its own, which reaches nothing; 0.7 ms. Before any thread is started, or Linux refuses."""
    new_user, new_network = 0x1000_0000, 0x4000_0000  # <sched.h>
    with suppress(AttributeError, OSError):  # another system; inside some containers it is not allowed
        ctypes.CDLL(None).unshare(new_network if os.geteuid() == 0 else new_user | new_network)


def _limit(which: int, value: int) -> None:
    with suppress(ValueError, OSError):  # macOS has no limit of the address space
        _, most = resource.getrlimit(which)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(which, (value, value))


def _allow(seconds: int) -> None:
    """End this process unless it gets here again within so many seconds of processor time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    until = math.ceil(usage.ru_utime + usage.ru_stime) + seconds
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (until if most == resource.RLIM_INFINITY else min(until, most), most))


class _Forwarding(logging.Handler):
    """Has what the decoders log appear in the other process."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        protocol.send(self._connection, protocol.WARNING, {"logger": record.name, "message": record.getMessage()})
