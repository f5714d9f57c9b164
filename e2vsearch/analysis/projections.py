"""The projections of a collection: fitted, compared, put to use, dropped. Knows an open collection and labels.

What is fitted is stored with how well it does; nothing changes for queries until `use`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.evaluation import dataset, labels_table, metrics
from e2vsearch.analysis.evaluation.dataset import Show
from e2vsearch.catalog import labels as rows
from e2vsearch.catalog import projections as stored
from e2vsearch.catalog import segments
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.encoders.registry import SAVED
from e2vsearch.errors import AnalysisError, E2vsearchError, QueryError, TooFewExamples
from e2vsearch.projections import adapt, discriminant, network, refit
from e2vsearch.projections import head as heads
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.projections.linear import LinearProjection
from e2vsearch.projections.sampling import sampled, voices_of
from e2vsearch.projections.view import load_projection
from e2vsearch.types import MAX_NAME, Head
from e2vsearch.vectors.engine import BuildReport

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ProjectionReport:
    """One projection of a collection."""

    name: str
    kind: str  # "raw", "shipped", "head" or "fitted"
    revision: str
    dim: int
    used: bool
    created_at: datetime | None  # None: raw vectors are always there
    report: Mapping[str, Any]  # how it was made, and how well it does


@dataclass(frozen=True, slots=True)
class Compared:
    """How well one projection finds the same emotion, the query's own speaker left out, beside the raw vectors."""

    name: str
    kind: str
    used: bool
    n: int
    map: float | None
    map_interval: tuple[float, float] | None
    map_chance: float | None
    precision_at_10: float | None
    same_speaker_at_10: float | None
    same_speaker_chance: float | None
    triplets: Mapping[str, float]  # by kind, chance is 0.5
    gain: float | None  # of mAP over raw vectors; None for these
    gain_interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class _Material:
    vectors: Vectors  # (n, dim) as the encoder made them
    emotions: list[str]
    speakers: list[str]  # where unknown, the file
    texts: list[str] | None  # None: not known of all
    files: list[str]
    failed: int
    named: bool  # speakers are known of all


def list_projections(context: AnalysisContext) -> tuple[ProjectionReport, ...]:
    """Every projection, the raw vectors first.

    Raises:
        NoCollection: nothing has been ingested yet.
    """
    dim = context.catalog.require_space().dim
    used = stored.used(context.catalog)
    raw = ProjectionReport(RAW.name, RAW.kind, RAW.revision, dim, used is None, None, {})
    return (raw, *(_report(context, each) for each in stored.listed(context.catalog)))


def fit(
    context: AnalysisContext,
    labels: str | os.PathLike[str] | None,
    *,
    name: str = "fitted",
    share: float | None = None,
    force: bool = False,
    seed: int = 0,
    progress: Show | None = None,
) -> ProjectionReport:
    """Fit a projection to labelled moments, and store it.

    Args:
        context: whose space it is of. Labelled files that it holds are taken from it, others are heard.
        labels: a CSV file as `evaluation.read_labels` takes it; None: the collection's own labels (`label`).
        name: of the projection; one of that name is replaced.
        share: of the plain view beside the emotion's, 0 to 1; chosen by cross-validation if None.
        force: replace a better one.
        seed: of the folds.
        progress: told of every file that is heard.

    Returns:
        The projection, with the mAP that its settings reach on held-out speakers, and what raw vectors reach there.

    Raises:
        TooFewExamples: too few labelled moments, speakers or emotions.
        AnalysisError: what is in use, or what it would replace, does better.
        SettingsError: the table cannot be read.
        QueryError: a name or share that cannot be.
    """
    name = _checked(name, share)
    found = _own(context) if labels is None else _labelled(context, labels, progress)
    digest = _digest(found)
    dim = context.catalog.require_space().dim
    on = context.view().projection.name
    there = [each for each in stored.listed(context.catalog) if each.name in (name, on)]
    # fitted to the same moments, it has seen what is held out here, and its own report is what it can do
    known = {each.name: each.report["map"] for each in there if each.report.get("data") == digest}
    centre, _ = _sample(context, seed)
    chosen = discriminant.fit(
        found.vectors,
        found.emotions,
        found.speakers,
        found.texts,
        name=name,
        centre=centre if len(centre) >= heads.LEAST_SEGMENTS else None,  # a few segments have no scatter of their own
        share=share,
        rivals={each.name: load_projection(each, dim) for each in there if each.name not in known},
        seed=seed,
    )
    reached = {**known, **chosen.map_of, **({RAW.name: chosen.map_raw} if on == RAW.name else {})}
    beaten = [f"{rival} reaches {value:.3f}" for rival, value in reached.items() if value > chosen.map]
    if beaten and not force:
        raise AnalysisError(
            f"the new projection's mAP on speakers held out is {chosen.map:.3f}, and {', '.join(beaten)} there - "
            "label more, or store it all the same with --force"
        )
    return _store(
        context,
        chosen.projection,
        {
            "labels": None if labels is None else os.fspath(labels),
            "examples": len(found.emotions),
            "failed": found.failed,
            "emotions": sorted(set(found.emotions)),
            "speakers": len(set(found.speakers)) if found.named else None,
            "shrinkage": chosen.shrinkage,
            "share": chosen.projection.share,
            "folds": chosen.folds,
            "sentences_held_out": found.texts is not None,
            "data": digest,
            "map": chosen.map,
            "map_raw": chosen.map_raw,
        },
    )


def fit_head(
    context: AnalysisContext,
    *,
    name: str = "head",
    share: float = heads.SHARE,
    speaker_keys: Sequence[str] = (),
    seed: int = 0,
) -> ProjectionReport:
    """Make a projection of the encoder's classifier head, adapted to the collection, without labels.

    It is what a collection adopts by itself where its encoder ships none (`e2vsearch.projections.refit`), and as it
    is now: one made by hand is not adapted again. The head is the encoder's where that gives it, else found by what it
    said of the stored segments.

    Args:
        context: with 20 segments or more.
        name: of the projection; one of that name is replaced.
        share: of nuance, 0 to 1.
        speaker_keys: columns of the metadata that name who speaks; a channel of a recording is one voice anyway.
        seed: of the sample, where there are more than 20,000 segments.

    Raises:
        AnalysisError: the encoder has no head.
        TooFewExamples: too few segments.
        QueryError: a name or share that cannot be.
    """
    name = _checked(name, share)
    vectors, ids = _sample(context, seed)
    head, source = _head(context, vectors, ids)
    voices = _voices(context, ids, speaker_keys)
    projection = adapt.of_collection(head, vectors, voices, name=name, share=share)
    report = {"segments": len(ids), "voices": int(np.unique(voices).size), "head": source, "share": share}
    return _store(context, projection, report)


def compare(
    context: AnalysisContext,
    labels: str | os.PathLike[str],
    *,
    seed: int = 0,
    draws: int = 6_000,
    progress: Show | None = None,
) -> tuple[Compared, ...]:
    """How well every projection does on labelled files, raw vectors first.

    One that was fitted to these very files looks better than it is; its report has the figures on held-out speakers.

    Args:
        context: whose projections they are. Labelled files that it holds are taken from it, others are heard.
        labels: a CSV file as `evaluation.read_labels` takes it.
        seed: of triplets and intervals.
        draws: triplets of each kind.
        progress: told of every file that is heard.

    Raises:
        TooFewExamples: too few labelled moments or emotions.
        SettingsError: the table cannot be read.
    """
    found = _labelled(context, labels, progress)
    used = context.view().projection.name
    dim = context.catalog.require_space().dim
    projections = [RAW, *(load_projection(each, dim) for each in stored.listed(context.catalog))]
    return tuple(_compared(found, each, each.name == used, seed, draws) for each in projections)


def use(context: AnalysisContext, name: str) -> BuildReport | None:
    """Search through a projection from now on, here and in every other process; ``raw`` for none.

    Its index is built first where one is due, so that no query waits. Nothing is ingested again.

    Returns:
        The index that was built, None if none was due.

    Raises:
        NotStored: there is no such projection.
        GenerationBusy: another process is building its index.
    """
    if name == RAW.name:
        refit.install_found(context.catalog)  # or the next ingest would take raw vectors for nobody's choice
    lens = context.view_of(name)
    built = lens.index.build() if lens.index.due() else None
    stored.use(context.catalog, None if name == RAW.name else name)
    return built


def drop(context: AnalysisContext, name: str) -> None:
    """Forget a projection and its index; raw vectors are searched from then on if it was in use.

    Raises:
        NotStored: there is no such projection.
        QueryError: it is the raw vectors, which are always there, or ships with the encoder.
    """
    if name == RAW.name:
        raise QueryError("raw vectors are always there - name another projection: e2vsearch projection list")
    found = stored.get(context.catalog, name)
    if found.kind == network.KIND:
        raise QueryError(f"{name} ships with the encoder - put another to use instead: e2vsearch projection use raw")
    if found.report.get(refit.ADOPTED):
        raise QueryError(f"{name} is made by itself - put another to use instead: e2vsearch projection use raw")
    stored.drop(context.catalog, name)
    shutil.rmtree(context.index_folder(found.revision), ignore_errors=True)


def _compared(found: _Material, projection: Projection, used: bool, seed: int, draws: int) -> Compared:
    vectors = projection.apply(found.vectors)
    speakers = found.speakers if found.named else None
    figures = metrics.measure(vectors, found.emotions, speakers, found.texts, seed, recordings=found.files, draws=draws)
    ranking = figures.other_speakers if found.named else figures.everyone
    voice, gain = figures.same_speaker, None
    if projection.kind != RAW.kind:
        args = (found.emotions, found.speakers, seed)
        gain = metrics.gain(vectors, found.vectors, *args, recordings=found.files)
    return Compared(
        name=projection.name,
        kind=projection.kind,
        used=used,
        n=figures.n,
        map=ranking.map if ranking else None,
        map_interval=ranking.map_interval if ranking else None,
        map_chance=ranking.map_chance if ranking else None,
        precision_at_10=ranking.precision_at_10 if ranking else None,
        same_speaker_at_10=voice.at_10 if voice else None,
        same_speaker_chance=voice.chance if voice else None,
        triplets={kind: each.accuracy for kind, each in figures.triplets.items()},
        gain=gain.map if gain else None,
        gain_interval=gain.map_interval if gain else None,
    )


def _labelled(context: AnalysisContext, labels: str | os.PathLike[str], progress: Show | None) -> _Material:
    """Labelled files, from the collection where it holds them, else heard."""
    table = labels_table.read(labels)
    material = dataset.recall(table, context)
    parts, failed = [material], len(material.failures)
    stored_rows = set(material.rows)
    rest = tuple(row for row in table.rows if row not in stored_rows)
    if rest and context.catalog.encoder_source != SAVED:
        heard = dataset.listen(replace(table, rows=rest, failures=()), context.encoder(), progress=progress)
        parts, failed = [*parts, heard], len(table.failures) + len(heard.failures)
    items = [item for part in parts for item in part.rows]
    if not items:
        first = material.failures[0].message if material.failures else "it has no rows"
        raise TooFewExamples(f"nothing that {os.fspath(labels)} labels can be used - {first}")
    files = [file for part in parts for file in part.files]
    named = all(item.speaker for item in items)
    return _Material(
        vectors=np.concatenate([part.vectors["clean"] for part in parts if len(part.rows)]),
        emotions=[item.emotion for item in items],
        speakers=[item.speaker or file for item, file in zip(items, files, strict=True)],
        texts=[item.text for item in items] if all(item.text for item in items) else None,
        files=files,
        failed=failed,
        named=named,
    )


def _digest(found: _Material) -> str:
    """The same for the same moments with the same labels."""
    digest = hashlib.sha256(np.ascontiguousarray(found.vectors).tobytes())
    digest.update(repr((found.emotions, found.speakers, found.texts)).encode())
    return digest.hexdigest()[:16]


def _own(context: AnalysisContext) -> _Material:
    """The moments that a person labelled here."""
    context.catalog.require_space()
    examples = rows.examples(context.catalog)
    if not examples:
        raise TooFewExamples("no moment is labelled yet - give examples with: e2vsearch label NAME EXAMPLE...")
    files = [each.source if each.recording is None else f"call:{each.recording}" for each in examples]
    return _Material(
        vectors=np.stack([each.vector for each in examples]),
        emotions=[each.label for each in examples],
        speakers=[each.speaker or file for each, file in zip(examples, files, strict=True)],
        texts=None,
        files=files,
        failed=0,
        named=all(each.speaker for each in examples),
    )


def _sample(context: AnalysisContext, seed: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Vectors of the collection as the encoder made them, and their ids; of many, a sample."""
    context.catalog.require_space()
    batch = sampled(context.catalog, seed)
    return batch.vectors, batch.ids


def _head(context: AnalysisContext, vectors: Vectors, ids: NDArray[np.int64]) -> tuple[Head, str]:
    """The encoder's head, and where it comes from."""
    space = context.catalog.require_space()
    if not space.labels:
        raise AnalysisError(
            f"{space.encoder} has no classes, and so no head - fit one to labels: e2vsearch projection fit"
        )
    if context.catalog.encoder_source != SAVED:
        try:
            head = context.encoder().head()
        except E2vsearchError:  # not to be opened here; what it said is stored all the same
            head = None
        if head is not None:
            return head, refit.OWN
    scored, said = segments.scores(context.catalog, ids)
    if not len(scored):
        raise AnalysisError(f"no segment has {space.encoder}'s scores to find its head by - fit one to labels instead")
    return heads.recovered(vectors[np.isin(ids, scored)], said), f"found by the scores of {len(said)} segments"


def _voices(context: AnalysisContext, ids: NDArray[np.int64], keys: Sequence[str]) -> NDArray[np.int64]:
    """Which segments are surely of one voice: of a speaker that metadata names, else of a recording's channel."""
    speakers: dict[int, tuple[str, ...]] = {}
    if keys:
        for number, recording in context.catalog.recordings():
            speakers[number] = tuple(recording.metadata.get(key, "") for key in keys)
    return voices_of(context.catalog, ids, speakers)


def _store(context: AnalysisContext, projection: LinearProjection, report: Mapping[str, Any]) -> ProjectionReport:
    made = StoredProjection(
        projection.name, projection.kind, projection.revision, projection.pack(), dict(report), datetime.now(UTC)
    )
    stored.put(context.catalog, made)
    return _report(context, made)


def _report(context: AnalysisContext, each: StoredProjection) -> ProjectionReport:
    used = stored.used(context.catalog)
    dim = load_projection(each, context.catalog.require_space().dim).dim_out(0)
    on = used is not None and used[0] == each.name
    return ProjectionReport(each.name, each.kind, each.revision, dim, on, each.created_at, each.report)


def _checked(name: str, share: float | None) -> str:
    plain = name.strip()
    if not plain or len(plain) > MAX_NAME or not plain.isprintable() or plain in (RAW.name, network.NAME):
        raise QueryError(
            f"{name[:80]!r} cannot name a projection - take 1 to {MAX_NAME} characters, not 'raw' or 'shipped'"
        )
    if share is not None and not 0.0 <= share <= 1.0:
        raise QueryError(f"the share of the plain view runs from 0 to 1, not {share:g}")
    return plain


class Projections(AnalysisContext):
    """The facet `Collection.projections`."""

    list = list_projections
    fit = fit
    fit_head = fit_head
    compare = compare
    use = use
    drop = drop
