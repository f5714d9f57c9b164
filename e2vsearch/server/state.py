"""The state of one application: its collection, executors, uploads, and the references that a client may name."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from fastapi import Request

from e2vsearch.access import AllowedFolders
from e2vsearch.collection import Collection
from e2vsearch.errors import E2vsearchError, NotStored, PathForbidden, QueryError
from e2vsearch.pipeline import stored_audio
from e2vsearch.scrub import Scrub
from e2vsearch.server.embedder import LimitedEmbedder
from e2vsearch.server.executor import BoundedExecutor, Disconnected, Ticket
from e2vsearch.server.options import ServiceOptions
from e2vsearch.server.prometheus import Metrics
from e2vsearch.server.tasks import Tasks
from e2vsearch.server.uploads import Form, Uploads
from e2vsearch.types import Comparison, EmbeddedAudio

T = TypeVar("T")
_ID = re.compile(r"(seg|call):[0-9]{1,18}", re.ASCII)
NAMES = ("emotion:", "label:")
"""Prefixes of references that are names, and neither ids nor files."""


def is_path(reference: str) -> bool:
    """Return whether a client's reference is a file, and nothing stored."""
    return not reference.startswith(("seg:", "call:", *NAMES))


@dataclass(frozen=True, slots=True)
class ServerState:
    """One application's collection, and all that its requests share."""

    collection: Collection
    options: ServiceOptions
    roots: AllowedFolders
    embedder: LimitedEmbedder
    embedding: BoundedExecutor
    reading: BoundedExecutor
    uploads: Uploads
    metrics: Metrics
    tasks: Tasks
    scrub: Scrub

    async def embed(self, request: Request, function: Callable[[], T]) -> T:
        """Return what `function` returns in one of the threads that embed audio."""
        with self.embedding.ticket(self.options.timeout_s) as ticket:
            return await ticket.run(function, disconnection(request))

    async def read(self, request: Request, function: Callable[[], T]) -> T:
        """Return what `function` returns in one of the threads that read what is stored."""
        with self.reading.ticket(self.options.timeout_s) as ticket:
            return await ticket.run(function, disconnection(request))

    @asynccontextmanager
    async def upload(self, request: Request, *files: str) -> AsyncIterator[tuple[Ticket, Form]]:
        """Receive a form with these files, and hold a ticket to embed for what is left of the request's time.

        Raises:
            Overloaded: every place is taken, before anything is received or after it.
        """
        until = time.monotonic() + self.options.timeout_s
        self.embedding.check()
        async with self.uploads.receive(request, self.options.timeout_s, *files) as form:
            with self.embedding.ticket(until - time.monotonic()) as ticket:
                yield ticket, form

    def resolve(self, reference: str) -> str | Path:
        """Return an id or name as it is, or the file in one of the roots.

        Raises:
            NotStored: it looks like an id and is none.
            PathForbidden: a path that may not be read.
            QueryError: a URI that is no file.
        """
        if not is_path(reference):
            if not reference.startswith(NAMES) and not _ID.fullmatch(reference):
                raise NotStored(f"{reference!r} is no id - write seg:NUMBER or call:NUMBER")
            return reference
        try:
            return self.roots.allowed(reference)
        except (OSError, ValueError) as error:  # a name too long for the file system, or one that it cannot write
            raise PathForbidden(f"{reference[:100]!r} is no file that may be read here") from error

    def resolve_audio(self, reference: str) -> str | Path:
        """Return an id or a file as `resolve` does, and no name.

        Raises:
            QueryError: it is the name of an emotion or label.
        """
        if reference.startswith(NAMES):
            raise QueryError(f"{reference} is no recording - name seg:NUMBER, call:NUMBER or a file")
        return self.resolve(reference)

    def embedded(self, reference: str) -> EmbeddedAudio:
        """Return the segments and vectors of a stored recording or segment, or of a file in one of the roots.

        Raises:
            QueryError: it names neither.
            AudioError, EncoderError: the file cannot be decoded or encoded.
        """
        found = self.resolve_audio(reference)
        if isinstance(found, str):
            return stored_audio(self.collection.catalog, found)
        with named_in_errors(found, reference):
            return self.collection.embed(found)

    def compare(self, a: tuple[str, str | Path], b: tuple[str, str | Path]) -> Comparison:
        """Return how alike two clips or ids feel, each with its client's name for it."""
        with named_in_errors(a[1], a[0]), named_in_errors(b[1], b[0]):
            found = self.collection.compare(a[1], b[1])
        return replace(found, a=replace(found.a, name=a[0]), b=replace(found.b, name=b[0]))

    def close(self) -> None:
        """Wait for what is in work, and remove the uploads; the catalog stays open."""
        for part in (self.tasks, self.embedding, self.reading, self.embedder, self.uploads):
            part.close()
        self.collection.index.builder.join()


def disconnection(request: Request) -> Disconnected:
    """Return what waits until the client has gone away; for a request whose body has been read."""

    async def wait() -> None:
        with suppress(Exception):  # whatever ends the connection
            while (await request.receive())["type"] != "http.disconnect":
                pass

    return wait


@contextmanager
def named_in_errors(path: str | Path, name: str) -> Iterator[None]:
    """Have errors name a file as its client does, and not by its path here."""
    try:
        yield
    except E2vsearchError as error:
        if str(path) not in str(error):
            raise
        raise type(error)(str(error).replace(str(path), name)) from error
