"""Files that clients send. Knows forms and temporary files, nothing of audio.

A file goes to disk as it comes in, a chunk at a time; how much of it may come is `guard`'s to say. It is removed as
soon as its request is over, whatever became of that.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fastapi import Request
from filelock import FileLock, Timeout
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from e2vsearch.audio import AUDIO_SUFFIXES
from e2vsearch.server.executor import Ticket
from e2vsearch.server.responses import Refused

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


_PREFIX, _LOCK = "e2vsearch-uploads-", ".lock"

_MAX_FIELD_BYTES = 16_384  # the longest filter, in any script, with room to spare

_MAX_PARTS = 16

_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Upload:
    """One file that was sent."""

    path: Path
    name: str  # what the client calls it; for messages only


@dataclass(frozen=True, slots=True)
class Form:
    """A whole form."""

    files: dict[str, Upload] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


class Uploads:
    """Where uploads lie while they are in work: a folder of this process's own."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._lock: FileLock | None = None

    @staticmethod
    def sweep() -> None:
        """Remove what services that were killed left behind: nobody holds the lock of such a folder any more."""
        for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
            with suppress(Timeout, OSError), FileLock(lock, timeout=0):  # OSError: another user's
                shutil.rmtree(lock.parent, ignore_errors=True)

    @asynccontextmanager
    async def received(self, request: Request, turn: Ticket, *wanted: str) -> AsyncIterator[Form]:
        """The form that a request brings within its turn, with these files in it.

        Raises:
            Refused: no form, a damaged one, or one without those files.
            TooSlow: it takes longer than the turn.
        """
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Refused(415, "not-a-form", f"send multipart/form-data with {' and '.join(wanted)} in it")
        reader = _Reader(wanted, self._made())
        try:
            try:
                parser = MultipartParser(options[b"boundary"], reader.callbacks())
                async with asyncio.timeout(turn.left_s):
                    async for chunk in request.stream():
                        parser.write(chunk)
            except TimeoutError as error:
                raise turn.too_slow() from error
            except FormParserError as error:
                raise Refused(400, "bad-form", f"the form cannot be read: {error}") from error
            reader.close()
            if not reader.ended:
                raise Refused(400, "bad-form", "the form ends before its last boundary - send it again")
            for name in wanted:
                if name not in reader.form.files:
                    raise Refused(422, "invalid", f"{name}: the form has no such file")
            yield reader.form
        finally:
            reader.close()
            for upload in reader.form.files.values():
                with suppress(OSError):  # Windows: a thread that is on its way out may still read it
                    upload.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder, and whatever is still in it."""
        if self._folder is not None and self._lock is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.release()
            self._folder = self._lock = None

    def _made(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            # given back by whichever thread ends the service, and by the system where it is killed
            self._lock = FileLock(self._folder / _LOCK, thread_local=False)
            self._lock.acquire()
        return self._folder


class _Reader:
    """What a multipart parser calls, piece by piece."""

    def __init__(self, wanted: tuple[str, ...], folder: Path) -> None:
        self.form = Form()
        self.ended = False
        self._wanted = wanted
        self._folder = folder
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._name = ""
        self._file: BinaryIO | None = None
        self._field = bytearray()
        self._parts = 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _on_part_begin(self) -> None:
        self._headers = {}
        self._field = bytearray()
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise Refused(422, "invalid", f"the form has more than {_MAX_PARTS} parts")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode(errors="replace")
        if self._name in self.form.files or self._name in self.form.fields:
            raise Refused(422, "invalid", f"{self._name}: the form has it twice")
        if self._name in self._wanted:
            name = _spoken(options.get(b"filename", b"")) or self._name
            suffix = Path(name).suffix.lower()  # some formats without a header are known by nothing else
            suffix = suffix if suffix in AUDIO_SUFFIXES else ""
            number, path = tempfile.mkstemp(suffix, dir=self._folder)  # nobody but this user may read it
            self._file = open(number, "wb")  # noqa: SIM115, PTH123 - open until the part ends; there is no path to open
            self.form.files[self._name] = Upload(Path(path), name)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._field += data[start:end]
        if len(self._field) > _MAX_FIELD_BYTES:
            raise Refused(422, "invalid", f"{self._name[:_NAME_LENGTH]}: longer than a field may be")

    def _on_part_end(self) -> None:
        if self._file is not None:
            self.close()
            return
        try:
            self.form.fields[self._name] = self._field.decode()
        except UnicodeDecodeError as error:
            raise Refused(422, "invalid", f"{self._name[:_NAME_LENGTH]}: not UTF-8") from error

    def _on_end(self) -> None:
        self.ended = True


def _spoken(filename: bytes) -> str:
    """A client's file name as a message may hold it: no folders, nothing that does not print."""
    name = re.split(r"[\\/]", filename.decode(errors="replace"))[-1]
    return "".join(character for character in name if character.isprintable())[-_NAME_LENGTH:]
