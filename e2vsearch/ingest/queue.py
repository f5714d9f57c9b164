"""The queue of a collection: recordings go in, workers take them out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from e2vsearch.catalog import queue as jobs
from e2vsearch.catalog.queue import NewJob
from e2vsearch.errors import SettingsError
from e2vsearch.ingest.context import IngestContext
from e2vsearch.ingest.metadata import MetadataTable, Row
from e2vsearch.ingest.ray import work_on_ray
from e2vsearch.ingest.recording import RecordingIngestor, source_path, source_uri
from e2vsearch.ingest.reports import FileFailure
from e2vsearch.ingest.sources import sources
from e2vsearch.ingest.worker import work
from e2vsearch.policy import Role, roles_of
from e2vsearch.remote.stores import Stores


@dataclass(frozen=True, slots=True)
class QueueReport:
    """Counts of recordings that were to be queued."""

    queued: int
    waiting: int  # queued or leased before
    dead_letters: int  # failed for good before, and left so: `e2vsearch queue retry` queues them again
    already: int  # stored before, unchanged
    unused_metadata: int  # rows of --meta that named no recording
    failures: tuple[FileFailure, ...]  # not there, or cannot be listed


def enqueue(
    context: IngestContext,
    *paths: str | os.PathLike[str],
    priority: int = 0,
    meta: str | os.PathLike[str] | None = None,
    channel_roles: Mapping[int, Role] | None = None,
) -> QueueReport:
    """Queue recordings for workers; no audio is read and no encoder opened.

    Args:
        context: whose queue.
        paths: files, folders, globs and URLs; workers find them by the same names.
        priority: those of a higher one are taken first.
        meta: a CSV whose columns are joined by file name, see `MetadataTable`.
        channel_roles: as for `e2vsearch.ingest.runner.ingest`; kept with each job.

    Raises:
        SettingsError: the metadata cannot be read, or a URL is no recording's or is signed: its signature would have to
            be kept with it.
        CatalogError: the database cannot be written.
    """
    of_vectors = context.of_vectors
    table = MetadataTable(meta) if meta is not None else None
    stores = Stores()
    ingestor = RecordingIngestor(context, None, table)
    ingestor.prefetch()
    already = 0
    failures: list[FileFailure] = []

    def new() -> Iterator[NewJob]:
        nonlocal already
        for source in sources(paths, stores, of_vectors=of_vectors):
            if not isinstance(source, Path) and source.url != source.uri:
                raise SettingsError(f"{source.uri}: a signed URL cannot be queued - use e2vsearch ingest")
            planned = ingestor.plan(source)
            row = table.find(source_path(source), source_uri(source)) if table is not None else None
            if planned.failure is not None:
                failures.append(planned.failure)
            elif planned.outcome == "already" and row is None:  # with metadata, a worker joins that
                already += 1
            else:
                uri = str(source) if isinstance(source, Path) else source.uri
                if channel_roles:
                    row = replace(row or Row({}, None), roles=roles_of(channel_roles))
                yield NewJob(uri, row.cells if row else None, row.recorded_at if row else None)

    done = jobs.enqueue(context.catalog, new(), priority)
    unused = table.unused() if table is not None else 0
    return QueueReport(done.queued, done.waiting, done.dead_letters, already, unused, tuple(failures))


class Queue(IngestContext):
    """The facet `Collection.queue`: recordings that wait for workers, on any number of machines."""

    add = enqueue
    work = work
    work_on_ray = work_on_ray

    def state(self) -> jobs.QueueState:
        """Return what is queued, what is leased, and the dead letters."""
        return jobs.state(self.catalog)

    def retry(self, uris: Sequence[str] | None = None) -> int:
        """Queue dead letters again, all by default, and return how many.

        Raises:
            NotStored: one of `uris` is no dead letter.
        """
        return jobs.retry(self.catalog, uris)

    def clear(self, *, dead_letters_only: bool = False) -> int:
        """Delete what is not leased, or the dead letters only, and return how many."""
        return jobs.clear(self.catalog, dead_letters_only=dead_letters_only)
