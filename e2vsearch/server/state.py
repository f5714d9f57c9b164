"""What every route has at hand. Knows lanes, limits and references, nothing of any one route."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fastapi import Request

from e2vsearch.access import AllowedFolders
from e2vsearch.collection import Collection
from e2vsearch.errors import E2vsearchError, NotStored, PathForbidden, QueryError
from e2vsearch.pipeline import stored_audio
from e2vsearch.search.compare import compare_audio
from e2vsearch.server.embedder import LimitedEmbedder
from e2vsearch.server.executor import BoundedExecutor, Gone, Ticket
from e2vsearch.server.options import ServiceOptions
from e2vsearch.server.prometheus import Metrics
from e2vsearch.server.uploads import Form, Uploads
from e2vsearch.types import Comparison, EmbeddedAudio

T = TypeVar("T")

_ID = re.compile(r"(seg|call):[0-9]{1,18}", re.ASCII)

NAMES = ("emotion:", "label:")
"""How references begin that are names, and neither ids nor files."""


def is_path(named: str) -> bool:
    """Whether a client's word names a file, and not something stored."""
    return not named.startswith(("seg:", "call:", *NAMES))


@dataclass(frozen=True, slots=True)
class ServerState:
    """One application's collection, and all that its requests share."""

    collection: Collection
    embedder: LimitedEmbedder
    options: ServiceOptions
    roots: AllowedFolders
    listening: BoundedExecutor
    reading: BoundedExecutor
    uploads: Uploads
    metrics: Metrics

    async def listen(self, request: Request, function: Callable[[], T]) -> T:
        """What `function` returns, in a thread of those that listen to audio."""
        with self.listening.turn(self.options.timeout_s) as turn:
            return await turn.run(function, gone(request))

    async def read(self, request: Request, function: Callable[[], T]) -> T:
        """What `function` returns, in a thread of those that read what is stored."""
        with self.reading.turn(self.options.timeout_s) as turn:
            return await turn.run(function, gone(request))

    @asynccontextmanager
    async def uploaded(self, request: Request, *files: str) -> AsyncIterator[tuple[Ticket, Form]]:
        """A turn to listen, and the form that was received within it."""
        with self.listening.turn(self.options.timeout_s) as turn:
            async with self.uploads.received(request, turn, *files) as form:
                yield turn, form

    def reference(self, named: str) -> str | Path:
        """What a client's word stands for: an id or name as it is, or a file in one of the roots.

        Raises:
            NotStored: an id that is none.
            PathForbidden: a path that may not be read.
            QueryError: a URI that is no file.
        """
        if not is_path(named):
            if not named.startswith(NAMES) and not _ID.fullmatch(named):
                raise NotStored(f"{named!r} is no id - write seg:NUMBER or call:NUMBER")
            return named
        try:
            return self.roots.allowed(named)
        except (OSError, ValueError) as error:  # a name too long for the file system, or one that it cannot write
            raise PathForbidden(f"{named[:100]!r} is no file that may be read here") from error

    def compare(self, a: tuple[str, EmbeddedAudio], b: tuple[str, EmbeddedAudio]) -> Comparison:
        """Return how alike two embedded clips feel, each with its client's name for it."""
        return compare_audio(self.collection.comparison_view(self.embedder.encoder()), a, b)

    def heard(self, named: str) -> EmbeddedAudio:
        """What is heard in a stored recording or moment, or in a file in one of the roots.

        Raises:
            QueryError: it names neither.
            AudioError, EncoderError: the file cannot be heard or encoded.
        """
        found = self.reference(named)
        if isinstance(found, Path):
            with called(found, named):
                return self.collection.embed(found)
        if found.startswith(NAMES):
            raise QueryError(f"{named} is no recording - name seg:NUMBER, call:NUMBER or a file")
        return stored_audio(self.collection.catalog, found)


def gone(request: Request) -> Gone:
    """Waits until the client has gone away; to be asked once the body has been read."""

    async def watch() -> None:
        with suppress(Exception):  # whatever ends the connection
            while (await request.receive())["type"] != "http.disconnect":
                pass

    return watch


@contextmanager
def called(path: Path, name: str) -> Iterator[None]:
    """Errors raised inside name a file as its client does, not by where it lies here."""
    try:
        yield
    except E2vsearchError as error:
        if str(path) not in str(error):
            raise
        raise type(error)(str(error).replace(str(path), name)) from error
