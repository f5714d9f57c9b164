"""Erasure: recordings are deleted with every trace of them, and the files are searched for what may be left.

`Collection.remove` deletes rows, and is done in milliseconds. Here everything is taken that was made of a recording as
well, what held it is rewritten, and the bytes of all files of the collection are searched for its vectors, words and
names. Every step can be repeated: after an interruption, `forget` without any name finishes what was begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath

import numpy as np

from e2vsearch import byte_search, traces
from e2vsearch.catalog import erasure, recordings
from e2vsearch.catalog import labels as stored_labels
from e2vsearch.catalog import projections as stored_projections
from e2vsearch.catalog.erasure import Erased
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import NotStored, QueryError
from e2vsearch.files import local_path, uri_scheme
from e2vsearch.index import Index
from e2vsearch.projections import network
from e2vsearch.projections.base import RAW
from e2vsearch.projections.refit import ADOPTED
from e2vsearch.traces import Trace
from e2vsearch.types import EmbeddedAudio, Recording, number_of
from e2vsearch.vectors.exact import unit32


@dataclass(frozen=True, slots=True)
class Proof:
    """A search of the bytes of a collection's files."""

    files: int
    size: int  # bytes
    traces: int  # that were searched for
    left: tuple[str, ...] = ()  # files that hold some, and of what kind these are


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What was erased, whether anything is left of it, and what lies out of reach."""

    erased: Erased
    map_points: int
    proof: Proof | None  # None: not searched
    audio: tuple[str, ...] = ()  # URIs of the recordings, whose files stay
    unreached: tuple[str, ...] = field(default=())  # each with what to do about it


def matching(
    catalog: Catalog, names: Sequence[str], where: str | None = None, older_than: timedelta | None = None
) -> list[Recording]:
    """Return the recordings that `forget` would erase.

    Raises:
        NotStored: nothing is stored, queued, failed or labelled by one of the names.
        BadFilter: `where` does not parse, or names nothing known.
    """
    found: list[Recording] | None = None
    if names or where is not None:
        stored = _stored(catalog, names)
        found = recordings.find(catalog, stored, where) if stored or not names else []
    if older_than is not None:
        old = set(erasure.recorded_before(catalog, datetime.now(UTC) - older_than))
        of_old = (each for _, each in catalog.recordings(sorted(old))) if found is None else found
        found = [each for each in of_old if number_of(each.id, "call") in old]
    return found or []


def forget(
    catalog: Catalog,
    index: Index,
    names: Sequence[str] = (),
    *,
    where: str | None = None,
    older_than: timedelta | None = None,
    vacuum: bool = True,
    proof: bool = True,
) -> ForgetReport:
    """Erase recordings with every trace of them; without any, finish what was begun or removed before.

    Rows, vectors, words, predictions, examples of labels, points and quotations of maps, jobs and failures go. The
    adopted projection and the index are made anew without them, kept queries and all other generations are deleted, and
    the database's files are rewritten. The audio stays where it is.

    Args:
        catalog: of the collection.
        index: of the collection.
        names: ids (``call:45``), and the files, folders or URLs of recordings, queued, failed or labelled ones too.
        where: only those with a segment that meets this filter.
        older_than: only those that were recorded so long ago.
        vacuum: rewrite the whole database, which holds up writers: 20 s for 1 GB.
        proof: search all files of the collection for what was erased.

    Raises:
        NotStored, BadFilter: nothing is known by one of the names, or `where` names nothing known.
        CatalogError, GenerationBusy, GenerationError: a database or an index that cannot be written; run it again.
    """
    chosen = matching(catalog, names, where, older_than)
    numbers = [number_of(each.id, "call") for each in chosen]
    uris = erasure.traces_at(catalog, names)
    wanted = _traces(catalog, index, numbers, uris) if proof else []
    unreached = _unreached(catalog, chosen)
    erased = erasure.erase(catalog, numbers, uris)
    points = erasure.prune(catalog)
    index.renew()
    erasure.scrub(catalog, vacuum=vacuum)
    found = _search(catalog, index, wanted) if proof else None
    return ForgetReport(erased, points, found, tuple(each.uri for each in chosen), unreached)


def check(catalog: Catalog, index: Index, names: Sequence[str], embed: Callable[[Path], EmbeddedAudio]) -> Proof:
    """Search all files of a collection for what would be there of recordings, by their paths, without erasing any.

    Where the audio is there still, its vectors are looked for as well.

    Args:
        catalog: of the collection.
        index: of the collection.
        names: paths or URLs.
        embed: embeds a file as the collection does.

    Raises:
        QueryError: no name, or an id, which tells nothing of what was stored under it.
    """
    if not names or any(name.startswith(("call:", "seg:")) for name in names):
        raise QueryError("--check takes the paths that recordings had, not ids - e2vsearch forget --check calls/a.wav")
    wanted: list[Trace] = []
    known = catalog.stored_files()
    held = [
        f"{name} is stored - e2vsearch forget erases it" for name in names if any(map(recordings.below(name), known))
    ]
    for name in names:
        remote = uri_scheme(name) not in (None, "file")
        path = local_path("nothing" if remote else name)
        uri = name if remote else str(path.absolute())
        wanted += [*traces.of_text("name", uri), *traces.of_text("name", PurePath(uri).stem)]
        if not remote and path.is_file():
            vectors = [each.vector for each in embed(path).segments]
            if vectors:
                wanted += _of_vectors(index, np.stack(vectors))
    found = _search(catalog, index, wanted)
    return Proof(found.files, found.size, found.traces, (*held, *found.left))


def _stored(catalog: Catalog, names: Sequence[str]) -> list[str]:
    """Return the names that recordings are stored by; others must be known for something else."""
    found = []
    for name in names:
        try:
            recordings.find(catalog, [name], None)
            found.append(name)
        except NotStored:
            if not erasure.traces_at(catalog, [name]):
                raise
    return found


def _traces(catalog: Catalog, index: Index, numbers: Sequence[int], uris: Sequence[str]) -> list[Trace]:
    found = [trace for uri in uris for trace in traces.of_text("name", uri)]
    if numbers:
        found += traces.of_recordings(catalog, numbers)
        ids, _ = catalog.segments_of(numbers)
        some = catalog.feed().fetch(ids[:: max(1, -(-ids.size // traces.SAMPLE))])
        found += _of_vectors(index, some.vectors)
    return list(dict.fromkeys(found))


def _of_vectors(index: Index, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> list[Trace]:
    """Return traces of vectors as the catalog, an index of them, and one of the projection in use hold them."""
    forms = (vectors, unit32(vectors), unit32(index.projection.apply(vectors)))
    return [trace for form in forms for trace in traces.of_vectors(form, vectors)]


def _search(catalog: Catalog, index: Index, wanted: Sequence[Trace]) -> Proof:
    folder = index.folder(RAW.revision)
    sizes: dict[Path, int] = {}
    for each in sorted(folder.rglob("*")):
        with suppress(OSError):  # gone meanwhile
            if each.is_file() and not each.is_symlink():
                sizes[each] = each.stat().st_size
    found = byte_search.search(list(sizes), [each.content for each in wanted])
    hits = sorted({number for numbers in found.values() for number in numbers})
    others = {hits[at] for at in traces.elsewhere(catalog, [wanted[number] for number in hits])}
    left = []
    for path, numbers in sorted(found.items()):
        kinds = sorted({wanted[number].kind for number in numbers - others})
        if kinds:
            left.append(f"{path}: {', '.join(kinds)}")
    return Proof(len(sizes), sum(sizes.values()), len(wanted), tuple(left))


def _unreached(catalog: Catalog, chosen: Sequence[Recording]) -> tuple[str, ...]:
    since = min((each.added_at for each in chosen), default=datetime.min.replace(tzinfo=UTC))
    found = ["the audio itself, and copies of it"] if chosen else []
    found += ["exports, backups, maps and results that were written elsewhere", "logs, which name files"]
    if catalog.url.get_backend_name() == "postgresql":
        found += [
            "Postgres's write-ahead log, replicas and base backups: let them expire",
            "indexes of this database on other machines: run e2vsearch forget there, too",
        ]
    found += [
        f"the projection {each.name!r}, which was fitted to segments of then: fit it again"
        for each in stored_projections.listed(catalog)
        if each.kind != network.KIND and not each.report.get(ADOPTED) and each.created_at >= since
    ]
    found += [
        f"the classifier {each.name!r}, which was trained on examples of then: e2vsearch train {each.name}"
        for each in stored_labels.classifiers(catalog)
        if each.created_at >= since
    ]
    return tuple(found)
