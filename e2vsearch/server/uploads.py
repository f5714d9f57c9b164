"""Forms with audio files are received by Starlette, and their files given paths for as long as the request lasts.

While a form comes in, its files are spooled into unnamed temporary files; `bodies` limits its bytes. Decoders are given
paths, so each file is then copied into a private folder, and removed with its request. A folder that a killed service
left behind is removed by the next one.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from filelock import FileLock, Timeout
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from e2vsearch.audio import AUDIO_SUFFIXES
from e2vsearch.server.executor import too_slow
from e2vsearch.server.responses import RequestError

_PREFIX, _LOCK = "e2vsearch-uploads-", ".lock"
_MAX_FIELD_BYTES = 16_384  # the longest filter, in any script, with room to spare
_MAX_FIELDS = 16
_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Upload:
    """One file that was sent."""

    path: Path
    name: str  # the client's; for messages only


@dataclass(frozen=True, slots=True)
class Form:
    """A whole form."""

    files: dict[str, Upload] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


class Uploads:
    """The folder of this process in which uploads lie while they are in work."""

    def __init__(self) -> None:
        self.receiving = 0  # forms that are on their way in
        self._folder: Path | None = None
        self._lock: FileLock | None = None

    def open(self) -> None:
        """Make the folder, and remove those that killed services left: nobody holds their locks any more."""
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            lock = folder / _LOCK
            # others may put folders here too, with a link in place of the lock, which locking would open to write
            if _is_own(folder, stat.S_IFDIR) and _is_own(lock, stat.S_IFREG):
                with suppress(Timeout, OSError), FileLock(lock, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
        self.folder()

    def folder(self) -> Path:
        """Return the folder, made if need be; nobody but this user may read it."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            # released by whichever thread ends the service, and by the system where it is killed
            self._lock = FileLock(self._folder / _LOCK, thread_local=False)
            self._lock.acquire()
        return self._folder

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None and self._lock is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.release()
            self._folder = self._lock = None

    @asynccontextmanager
    async def receive(self, request: Request, timeout_s: float, *names: str) -> AsyncIterator[Form]:
        """Receive a form with these files; they are removed at the end.

        Raises:
            RequestError: no form, a damaged one, one without those files, or one with more than they.
            TooSlow: it takes longer than the request may.
        """
        self.receiving += 1
        try:
            async with asyncio.timeout(timeout_s):
                sent = await _parse(request, names)
        except TimeoutError as error:
            raise too_slow() from error
        finally:
            self.receiving -= 1
        form = Form()
        try:
            for name, value in sent.multi_items():
                if isinstance(value, str):
                    form.fields[name] = value
                elif name in names:
                    form.files[name] = await asyncio.to_thread(self._store, value.file, value.filename or name)
            await sent.close()
            yield form
        finally:
            await sent.close()
            for upload in form.files.values():
                upload.path.unlink(missing_ok=True)

    def _store(self, file: BinaryIO, filename: str) -> Upload:
        name = _printable(filename)
        suffix = Path(name).suffix.lower()  # some formats without a header are known by nothing else
        suffix = suffix if suffix in AUDIO_SUFFIXES else ""
        with tempfile.NamedTemporaryFile(suffix=suffix, dir=self.folder(), delete=False) as stored:
            shutil.copyfileobj(file, stored)
        return Upload(Path(stored.name), name)


def _is_own(path: Path, kind: int) -> bool:
    """Return whether a path is of that kind itself, no link to such, and this user's."""
    try:
        state = path.lstat()
    except OSError:
        return False
    return stat.S_IFMT(state.st_mode) == kind and (os.name == "nt" or state.st_uid == os.geteuid())


class _Parser(MultiPartParser):
    """Starlette's parser, which takes a form that breaks off for a whole one."""

    ended = False
    spool_max_size = 65_536  # bytes of a file in memory, before it goes to disk

    def on_end(self) -> None:
        self.ended = True

    async def parse(self) -> FormData:
        """Receive the form, and close its files whatever stops it: before 1.6, Starlette does so for few reasons."""
        try:
            return await super().parse()
        except BaseException:
            for file in self._files_to_close_on_error:
                file.close()
            raise


async def _parse(request: Request, names: tuple[str, ...]) -> FormData:
    kind, _, options = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "multipart/form-data" or "boundary=" not in options.lower():
        raise RequestError(415, "not-a-form", f"send multipart/form-data with {' and '.join(names)} in it")
    parser = _Parser(
        request.headers,
        _whole(request, lambda: parser.ended),
        max_files=len(names),
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:  # Starlette 1.3 lets the parser's own through
        raise RequestError(400, "bad-form", f"the form cannot be read: {error}") from error
    keys = [name for name, _ in form.multi_items()]
    twice = next((name for name in keys if keys.count(name) > 1), None)
    missing = next((name for name in names if not isinstance(form.get(name), UploadFile)), None)
    if twice is not None or missing is not None:
        await form.close()
        problem = "the form has no such file - send it with a file name" if twice is None else "the form has it twice"
        raise RequestError(422, "invalid", f"{_printable(twice or missing or '')}: {problem}")
    return form


async def _whole(request: Request, ended: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    async for chunk in request.stream():
        yield chunk
    if not ended():
        raise MultiPartException("it ends before its last boundary - send it again")


def _printable(name: str) -> str:
    """Return a client's file name as a message may hold it: no folders, nothing that does not print."""
    return "".join(each for each in re.split(r"[\\/]", name)[-1] if each.isprintable())[-_NAME_LENGTH:]
