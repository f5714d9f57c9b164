"""Erasure: recordings are deleted with every trace of them, and the files are searched for what may be left.

`Collection.remove` deletes rows, and is done in milliseconds. Here everything is taken that was made of a recording as
well, what held it is rewritten, and the bytes of all files of the collection are searched for its vectors, words and
names. Every step can be repeated. A file that is there from the first deletion to the last step tells of one that was
interrupted: whatever is forgotten next, in the same collection, is finished together with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath

import numpy as np

from e2vsearch import byte_search, traces
from e2vsearch.catalog import audit, engine_choice, erasure, recordings
from e2vsearch.catalog import labels as stored_labels
from e2vsearch.catalog import projections as stored_projections
from e2vsearch.catalog.erasure import Erased
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import NotStored, QueryError, SettingsError
from e2vsearch.files import local_path, private_file, private_folder, uri_scheme
from e2vsearch.index import Index
from e2vsearch.playback import Playback
from e2vsearch.projections import network
from e2vsearch.projections.base import RAW
from e2vsearch.projections.refit import ADOPTED
from e2vsearch.traces import Trace
from e2vsearch.types import Recording, number_of
from e2vsearch.vectors.exact import unit32

PENDING = "erasure.pending"
"""Name of the file in the collection's folder that is there while an erasure is not done."""


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

    erased: Erased = field(default_factory=Erased)
    map_points: int = 0
    proof: Proof | None = None  # None: not searched
    audio: tuple[str, ...] = ()  # URIs of the recordings, whose files stay
    unreached: tuple[str, ...] = field(default=())  # each with what to do about it


def retention(catalog: Catalog) -> timedelta | None:
    """Return how long recordings are kept; None without a limit."""
    days = catalog.policy.retention_days
    return None if days is None else timedelta(days=days)


def _matching(
    catalog: Catalog, names: Sequence[str], where: str | None, older_than: timedelta | None
) -> list[Recording]:
    """Return the recordings that are to be erased."""
    found: list[Recording] | None = None
    if names or where is not None:
        stored = _stored(catalog, names)
        found = recordings.find(catalog, stored, where, damaged=True) if stored or not names else []
    if older_than is not None:
        old = set(erasure.recorded_before(catalog, datetime.now(UTC) - older_than))
        of_old = (each for _, each in catalog.recordings(sorted(old), damaged=True)) if found is None else found
        found = [each for each in of_old if number_of(each.id, "call") in old]
    return found or []


def forget(
    catalog: Catalog,
    index: Index,
    playback: Playback,
    names: Sequence[str] = (),
    *,
    where: str | None = None,
    older_than: timedelta | None = None,
    expired: bool = False,
    check: bool = False,
    dry_run: bool = False,
    vacuum: bool = True,
    proof: bool = True,
) -> ForgetReport:
    """Erase recordings with every trace of them; without any, finish what was begun or removed before.

    Rows, vectors, words, predictions, examples of labels, points and quotations of maps, jobs and failures go. The
    adopted projection and the index are made anew without them, kept queries and all other generations are deleted, and
    the database's files are rewritten. Audio that is cached on this machine goes, the recordings' own files stay.

    Args:
        catalog: of the collection.
        index: of the collection.
        playback: of the collection.
        names: ids (``call:45``), and the files, folders or URLs of recordings, queued, failed or labelled ones too.
        where: only those with a segment that meets this filter.
        older_than: only those that were recorded so long ago.
        expired: only those older than the collection's ``retention_days``.
        check: erase nothing; search all files for `names`, which may be paths, URLs or any words.
        dry_run: change nothing; the report has the recordings that would be erased.
        vacuum: rewrite the whole database, which holds up writers meanwhile; else only what was deleted.
        proof: search all files of the collection for what was erased.

    Raises:
        NotStored, BadFilter: nothing is known by one of the names, or `where` names nothing known.
        QueryError: `check`, and something cannot be searched for.
        SettingsError: `expired`, and the collection has no ``retention_days``; or cached audio cannot be deleted.
        CatalogError, GenerationBusy, GenerationError: a database or an index that cannot be written; run it again.
    """
    if check:
        return ForgetReport(proof=_check(catalog, index, names))
    if expired:
        older_than = retention(catalog)
        if older_than is None:
            raise SettingsError("there are no retention_days - set some: e2vsearch policy set --retention-days 90")
    chosen = _matching(catalog, names, where, older_than)
    numbers, audio = [number_of(each.id, "call") for each in chosen], tuple(each.uri for each in chosen)
    uris = erasure.traces_at(catalog, names)
    pending = index.folder(RAW.revision) / PENDING
    chooses = bool(names) or where is not None or older_than is not None
    if dry_run or (chooses and not numbers and not uris and not pending.exists()):
        return ForgetReport(Erased(recordings=len(chosen)), audio=audio)
    wanted = _traces(catalog, index, numbers, uris) if proof else []
    unreached = _unreached(catalog, chosen)
    with suppress(OSError):  # what cannot be written here is seen soon enough
        private_file(private_folder(pending.parent) / PENDING)
    erased = erasure.erase(catalog, numbers, uris)
    points = erasure.prune(catalog)
    index.renew()
    playback.clean()
    erasure.scrub(catalog, vacuum=vacuum)
    pending.unlink(missing_ok=True)
    found = _search(catalog, index, wanted) if wanted else None
    return ForgetReport(erased, points, found, audio, unreached)


def _check(catalog: Catalog, index: Index, names: Sequence[str]) -> Proof:
    """Search all files for paths of recordings, their names, or any words."""
    wanted: list[Trace] = []
    for name in names:
        path = name if uri_scheme(name) not in (None, "file") else str(local_path(name).absolute())
        found = {each for form in (name, path, PurePath(path).stem) for each in traces.of_text("name", form)}
        if name.startswith(("call:", "seg:")) or not found:
            raise QueryError(f"{name!r} cannot be searched for - give a path, or words of 8 letters or more")
        wanted += sorted(found, key=lambda each: each.content)
    if not wanted:
        raise QueryError("nothing to search for - name what recordings were ingested from, or any words")
    return _search(catalog, index, wanted, live=True)


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


def _search(catalog: Catalog, index: Index, wanted: Sequence[Trace], *, live: bool = False) -> Proof:
    """Search all files; what stored recordings hold counts with `live` alone."""
    folder = index.folder(RAW.revision)
    sizes: dict[Path, int] = {}
    for each in sorted(folder.rglob("*")):
        with suppress(OSError):  # gone meanwhile
            if each.is_file() and not each.is_symlink():
                sizes[each] = each.stat().st_size
    found = byte_search.search(list(sizes), [each.content for each in wanted])
    hits = sorted({number for numbers in found.values() for number in numbers})
    others = set() if live else {hits[at] for at in traces.elsewhere(catalog, [wanted[number] for number in hits])}
    left = []
    for path, numbers in sorted(found.items()):
        kinds = sorted({wanted[number].kind for number in numbers - others})
        if kinds:
            left.append(f"{path}: {', '.join(kinds)}")
    return Proof(len(sizes), sum(sizes.values()), len(wanted), tuple(left))


def _unreached(catalog: Catalog, chosen: Sequence[Recording]) -> tuple[str, ...]:
    since = min((each.added_at for each in chosen), default=datetime.min.replace(tzinfo=UTC))
    found = ["the audio, which the next ingest stores again: delete it, and copies of it"] if chosen else []
    found += ["exports, backups, maps and results that were written elsewhere", "logs, which name files"]
    if next(audit.entries(catalog.reading), None) is not None:
        found.append("the audit log, which names recordings and is only ever added to")
    if engine_choice.chosen(catalog).name == engine_choice.MILVUS:
        found.append("Milvus's own logs and files of dropped collections, until it collects its garbage")
    if catalog.url.get_backend_name() == "postgresql":
        found += [
            "Postgres's write-ahead log, replicas and base backups: let them expire",
            "indexes and cached audio of this database on other machines: run e2vsearch forget there, too",
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
