"""Audio comes from a path, bytes or an array, each checked before it is decoded."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import AudioEmpty, AudioForbidden, AudioInvalid, AudioNotFound, AudioUnreadable
from e2vsearch.files import local_path, open_regular, uri_scheme

MAX_CHANNELS = 32
"""Call recorders write 1 to 8 channels; an array with more rows than this is taken for (samples, channels)."""

BYTES_NAME = "the audio given as bytes"
ARRAY_NAME = "the array"


RANGE_BYTES = 1 << 16
"""Read of a `RangedAudio` at a time, so that what a decoder's process is sent fits into its socket's buffer."""


@dataclass(frozen=True, slots=True)
class RangedAudio:
    """Encoded bytes that are no file of this machine, of which a decoder reads what it needs.

    `read` may return fewer bytes than it is asked for, and none at the end alone.
    """

    name: str  # for messages
    size: int
    suffix: str  # lower case with its dot
    read: Callable[[int, int], bytes] = field(repr=False)  # a position and a count


class RangedFile(io.RawIOBase):
    """A file whose bytes a function returns."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size = size
        self._read = read
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, which may lie after the end, and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("no file has a byte before its first")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, and return how far."""
        data = self._read(self._position, min(len(buffer), RANGE_BYTES)) if self._position < self._size else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@dataclass(frozen=True, slots=True)
class Source:
    """An open, seekable run of encoded bytes."""

    name: str  # for messages
    file: BinaryIO
    size: int
    suffix: str  # lower case with its dot; "" for bytes
    ranges: Callable[[int, int], bytes] | None = None  # that `file` reads by, of a `RangedAudio`

    def at(self, position: int, count: int) -> bytes:
        """Up to `count` bytes from `position`."""
        self.file.seek(position)
        return self.file.read(count)


@contextmanager
def opened(source: str | os.PathLike[str] | bytes | RangedAudio) -> Iterator[Source]:
    """Open the bytes behind a path, or bytes themselves, ready to read.

    Raises:
        AudioNotFound, AudioNotAFile, AudioForbidden, AudioEmpty, AudioInvalid: see `e2vsearch.errors`.
        AudioUnreadable: the disk or network share failed.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        if not data:
            raise AudioEmpty(f"{BYTES_NAME} is empty (0 bytes): check what made it")
        yield Source(BYTES_NAME, io.BytesIO(data), len(data), "")
        return
    if isinstance(source, RangedAudio):
        ranged = io.BufferedReader(RangedFile(source.size, source.read), RANGE_BYTES)
        yield Source(source.name, ranged, source.size, source.suffix, source.read)
        return
    if not isinstance(source, str | os.PathLike):
        raise AudioInvalid(f"audio comes from a path, bytes or a numpy array, not from a {type(source).__name__}")
    if isinstance(source, str) and uri_scheme(source) == "file":
        source = local_path(source)
    if isinstance(source, str) and "://" in source:
        raise AudioNotFound(f"{source} is not on this machine: download it, and give the file")
    path = Path(source)
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise AudioEmpty(f"{path} is empty (0 bytes): copy or export it again")
        yield Source(str(path), file, size, path.suffix.lower())


def _open(path: Path) -> BinaryIO:
    try:
        return io.BufferedReader(open_regular(path))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the name
        raise AudioNotFound(f"{str(path)!r} does not exist: check the path") from error
    except PermissionError as error:
        raise AudioForbidden(f"{path} may not be read by this user: change its permissions") from error
    except OSError as error:
        raise AudioUnreadable(f"{path} cannot be opened: {error.strerror}") from error


@contextmanager
def descriptor_of(source: Source) -> Iterator[int | None]:
    """Yield the descriptor of a source's file; of bytes, of a file in memory; None for what is read by ranges."""
    if source.ranges is not None:
        yield None
        return
    try:
        yield source.file.fileno()
        return
    except io.UnsupportedOperation:
        pass
    data = source.at(0, source.size)
    if hasattr(os, "memfd_create"):
        file = os.fdopen(os.memfd_create("e2vsearch"), "w+b", buffering=0)
    else:
        import tempfile

        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed below
    with file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        yield file.fileno()


def planes(array: NDArray[Any]) -> NDArray[Any]:
    """Return a checked ``(channels, samples)`` view of an array of ``(samples,)`` or ``(channels, samples)``.

    Raises:
        AudioInvalid: another number of axes, ``(samples, channels)``, or a dtype that is no audio.
        AudioEmpty: no samples.
    """
    if array.ndim not in (1, 2):
        raise AudioInvalid(f"{ARRAY_NAME} has shape {array.shape}: pass (samples,) or (channels, samples)")
    rows = array[np.newaxis] if array.ndim == 1 else array
    if rows.size == 0:
        raise AudioEmpty(f"{ARRAY_NAME} of shape {array.shape} holds no samples")
    if rows.shape[0] > MAX_CHANNELS:
        raise AudioInvalid(
            f"{ARRAY_NAME} of shape {array.shape} would be {rows.shape[0]} channels: "
            "if it is (samples, channels), transpose it with array.T"
        )
    floats(rows[:, :0])  # an unfit dtype is refused now, not after the first block
    return rows


def floats(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Return samples of any audio dtype as float32, integers scaled so that full scale is 1.0.

    Raises:
        AudioInvalid: a dtype whose full scale is unknown.
    """
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:  # WAV's and AU's unsigned 8-bit: 128 is silence
        return (samples.astype(np.float32) - 128.0) / 128.0
    if samples.dtype in (np.int16, np.int32):
        return samples.astype(np.float32) / np.float32(-float(np.iinfo(samples.dtype).min))
    raise AudioInvalid(
        f"samples of dtype {samples.dtype} have no known full scale: pass float32 in -1 to 1, int16, int32 or uint8"
    )
