"""Local files: paths and URI schemes, content hashes, atomic writes, memory maps."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import logging
import mmap
import os
import re
import secrets
import shutil
import socket
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

import numpy as np
from numpy.typing import DTypeLike, NDArray

from e2vsearch.errors import AudioForbidden, AudioNotAFile, AudioNotFound, Cancelled, QueryError, SettingsError

TEMPORARY = ".tmp"
"""How the name of a file ends that is not whole yet; after a crash it may be removed."""

_log = logging.getLogger(__name__)


_HASHED_BYTES = 1 << 20  # between two looks at whether to stop


def sha256(path: Path, stop: Callable[[], bool] = lambda: False) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; 1.5 GB a second from the page cache.

    Args:
        path: of a regular file.
        stop: whether the result is wanted no more.

    Raises:
        AudioNotAFile: a folder, pipe or device.
        OSError: it cannot be read.
        e2vsearch.errors.Cancelled: `stop` returned true.
    """
    digest, piece = hashlib.sha256(), memoryview(bytearray(_HASHED_BYTES))
    with open_regular(path) as file:
        while count := file.readinto(piece):
            if stop():
                raise Cancelled
            digest.update(piece[:count])
    return digest.hexdigest()


def open_regular(path: Path) -> io.FileIO:
    """Open a regular file to read, unbuffered; what is none is not waited for.

    A pipe that nobody writes to would be waited for, and a device may never end.

    Raises:
        AudioNotAFile: a folder, pipe, socket or device.
        OSError: it cannot be opened.
    """
    _check_regular(path, path.stat())  # first: opening some devices does something
    # without waiting, since another file may have taken its place meanwhile
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_regular(path, os.fstat(descriptor))
        return io.FileIO(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        AudioNotAFile, OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return file.readall()


def _check_regular(path: Path, state: os.stat_result) -> None:
    if stat.S_ISDIR(state.st_mode):
        raise AudioNotAFile(f"{path} is a folder: name the files in it, or ingest the folder")
    if not stat.S_ISREG(state.st_mode):
        raise AudioNotAFile(f"{path} is a pipe, socket or device: save what comes from it to a file")


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():  # a folder cannot be opened there, and NTFS journals renames
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter, and what lies above it, unless it is there; return its path."""
    if not path.parent.exists():
        private_folder(path.parent)
    path.mkdir(0o700, exist_ok=True)
    return path


def private_file(path: Path) -> Path:
    """Make an empty file that only its owner may read, unless there is one; return its path.

    Whatever writes to it afterwards, SQLite and Arrow too, leaves it its mode. No umask is set for that: it is the
    whole process's.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return path


def make_private(path: Path) -> None:
    """Let only the owner read a file, or enter a folder and all in it; skipped where files have no modes."""
    for each in (path, *path.rglob("*")):
        with suppress(OSError):
            each.chmod(0o700 if each.is_dir() else 0o600)


def shared(folder: Path) -> list[Path]:
    """Return the folder and what is in it, as far as others than its owner may read or enter it."""
    found = []
    for each in (folder, *folder.rglob("*")):
        with suppress(OSError):  # gone meanwhile
            if os.name == "posix" and each.lstat().st_mode & 0o077 and not each.is_symlink():
                found.append(each)
    return found


def open_mapped(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Map a file as an array that cannot be written to."""
    if shape[0] == 0:  # nothing cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", shape=shape).view(np.ndarray)


def drop_page_cache(array: NDArray[Any]) -> None:
    """Give back the memory that pages of a mapped file take in this process; they are read again when touched.

    Whoever reads a whole file through a map counts all of it as resident, 4 GB for a million vectors.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        base.madvise(mmap.MADV_DONTNEED)


def atomic_write(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """Write a file so that a reader, or a power cut, finds the old content or the new, never a part.

    Args:
        path: the file, which only its owner may read.
        content: what it holds; or what writes that to another path, an empty file.
    """
    with atomic_path(path) as aside:
        private_file(aside)
        if isinstance(content, bytes):
            aside.write_bytes(content)
        else:
            content(aside)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`; the file or folder that is written there gets the name `path` at the end.

    It is synced before, and only its owner may read it. After an error it is removed, and `path` stays as it was. Once
    it has its name it is kept: if the folder cannot be synced then, so that a power cut might undo that, a warning is
    logged.
    """
    aside = path.with_name(f"{path.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    try:
        yield aside
        make_private(aside)
        for written in (*(each for each in aside.rglob("*") if each.is_file()), aside):
            sync(written)
        aside.replace(path)
    except BaseException:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    try:
        sync(path.parent)
    except OSError as error:
        _log.warning("%s is written, but a power cut may still undo it (%s): check that disk", path, error)


def clear_abandoned(path: Path, *, inside: bool = False) -> None:
    """Remove what `atomic_path` left in processes of this machine that were killed.

    Args:
        path: of the file or folder that was to be written.
        inside: whether it is a folder, and what was to be written in it is meant.
    """
    if os.name == "nt":  # there, asking whether a process lives may end it
        return
    written = ".+" if inside else re.escape(path.name)
    name = re.compile(rf"{written}\.{_machine()}-(\d+)-[0-9a-f]{{8}}{re.escape(TEMPORARY)}.*")
    for left in list((path if inside else path.parent).iterdir()):
        found = name.fullmatch(left.name)
        if found is None or _lives(int(found[1])):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with suppress(OSError):
                left.unlink()


def _machine() -> str:
    """Return eight characters for this machine, or container: another one's processes have other numbers."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's
        return True
    return True


_CURES = {
    errno.ENOSPC: "the disk is full: free some of it, or choose another place",
    errno.EDQUOT: "the quota is used up: free some of it, or choose another place",
    errno.EROFS: "the file system is read-only: choose another place",
    errno.EACCES: "this user may not write there: change the permissions, or choose another place",
    errno.EPERM: "this user may not write there: change the permissions, or choose another place",
    errno.ENOTDIR: "a part of that path is a file: choose another place",
    errno.EEXIST: "a file of that name is there: choose another place",
    errno.EIO: "the disk fails: check it, or choose another place",
}


def unwritable(path: Path, error: OSError) -> str:
    """Return in one line why a file or folder cannot be written, with the cure.

    >>> unwritable(Path("/media/calls"), OSError(errno.EROFS, "Read-only file system"))
    '/media/calls cannot be written: Read-only file system - the file system is read-only: choose another place'
    """
    cure = _CURES.get(error.errno or 0, "choose another place")
    return f"{path} cannot be written: {error.strerror or error} - {cure}"


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return the file that a path or a ``file://`` URI names.

    Raises:
        QueryError: a URI of another scheme.
    """
    text = os.fspath(path)
    scheme, separator, _ = text.partition("://")
    if separator and scheme.isalnum():
        if scheme.lower() != "file":
            raise QueryError(f"{text}: only files and file:// URIs can be read - download it first")
        return Path(os.fsdecode(unquote_to_bytes(os.fsencode(urlsplit(text).path))))
    try:
        return Path(text).expanduser()
    except RuntimeError:  # "~name" of nobody: a file may be called so
        return Path(text)


def file_uri(path: Path) -> str:
    r"""Return what is stored of a path: itself, or a ``file://`` URI if its bytes are no text; `local_path` inverts it.

    >>> file_uri(Path("/calls/a.wav")), file_uri(Path(os.fsdecode(b"/calls/a\xff.wav")))
    ('/calls/a.wav', 'file:///calls/a%FF.wav')
    """
    text = str(path)
    return text if _is_text(text) else f"file://{quote(os.fsencode(text))}"


def legible(text: str) -> str:
    r"""Return a name that can be stored and sent: bytes that are no UTF-8 become escapes such as ``\xff``."""
    return text if _is_text(text) else os.fsencode(text).decode("utf-8", "backslashreplace")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def uri_scheme(text: str) -> str | None:
    """Return the scheme of a URL, lower case; None for a path.

    >>> uri_scheme("S3://bucket/a.wav"), uri_scheme("calls/a.wav"), uri_scheme("C:/calls/a.wav")
    ('s3', None, None)
    """
    scheme, separator, _ = text.partition("://")
    return scheme.lower() if separator and scheme.isalnum() else None


def stat_of(path: Path) -> os.stat_result:
    """Return size and time of a regular file.

    Raises:
        AudioNotFound, AudioForbidden, AudioNotAFile: it is not there, may not be looked at, or is no file.
    """
    with readable(path):
        state = path.stat()
        _check_regular(path, state)
        return state


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about a file into the package's own.

    Raises:
        AudioNotFound, AudioForbidden, AudioNotAFile: it cannot be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise AudioNotFound(f"{path}: no such file - check the path") from error
    except PermissionError as error:
        raise AudioForbidden(f"{path}: may not be read - check its permissions and its folders'") from error
    except IsADirectoryError as error:
        raise AudioNotAFile(f"{path}: is a folder - name the files in it, or a folder above") from error
    except OSError as error:
        raise AudioNotFound(f"{path}: cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV or TSV file; names and cells without spaces around them."""

    columns: list[str]  # as its first line names them
    rows: list[tuple[int, list[str]]]  # each with the number of its last line; those without any text are left out
    unreadable: tuple[tuple[int, str], ...] = ()  # lines that are no row, with the reason


def read_table(path: Path, name: str, *, lenient: bool = False) -> Table:
    """Read a table; its first line tells whether tabs, semicolons or commas are between its cells.

    Args:
        path: of the file.
        name: what an error calls it, such as ``--meta``.
        lenient: leave lines out that are no CSV, but for the first.

    Raises:
        SettingsError: it cannot be read, or a line is no CSV.
    """
    try:
        text = read_regular(path).decode("utf-8-sig")
    except AudioNotAFile as error:
        raise SettingsError(f"{name} {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise SettingsError(f"{name} {path} is not UTF-8 text - save it as CSV in UTF-8") from error
        raise SettingsError(f"{name} {path} cannot be read: {error.strerror} - name a CSV or TSV file") from error
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter="\t" if "\t" in head else ";" if ";" in head else ",")
    rows: list[tuple[int, list[str]]] = []
    unreadable: list[tuple[int, str]] = []
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if not rows or not lenient:
                raise SettingsError(f"{name} {path} line {reader.line_num}: {error} - mend that line") from error
            unreadable.append((reader.line_num, str(error)))
            continue
        if cells is None:
            break
        rows.append((reader.line_num, [cell.strip() for cell in cells]))
    left = [(line, cells) for line, cells in rows[1:] if any(cells)]
    return Table(rows[0][1] if rows else [], left, tuple(unreadable))


FILE_COLUMNS = ("file", "filename", "file_name", "path", "uri", "recording", "name")


def responsible_use() -> Path | None:
    """Return the file RESPONSIBLE-USE.md, which a wheel and a checkout hold; None in a copy without it."""
    package = Path(__file__).resolve().parent
    places = (package / "RESPONSIBLE-USE.md", package.parent / "RESPONSIBLE-USE.md")
    return next((path for path in places if path.is_file()), None)
