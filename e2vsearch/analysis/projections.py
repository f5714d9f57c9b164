"""The projections of a collection: list, fit, compare, use and drop.

A fitted projection is stored with its figures; queries change with `use` alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch import plugins
from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.evaluation import metrics
from e2vsearch.analysis.evaluation.dataset import ProgressCallback
from e2vsearch.analysis.training_data import TrainingData, from_labels, from_table
from e2vsearch.catalog import projections as stored
from e2vsearch.catalog import segments
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.encoders.registry import SAVED
from e2vsearch.errors import AnalysisError, E2vsearchError, QueryError
from e2vsearch.projections import adapt, discriminant, network, refit
from e2vsearch.projections import head as heads
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.projections.linear import LinearProjection
from e2vsearch.projections.sample import sample_segments, speakers_of
from e2vsearch.projections.view import load_projection
from e2vsearch.types import MAX_NAME, Head
from e2vsearch.vectors.engine import BuildReport

Vectors = NDArray[np.float32]

_MAX_KIND = 16  # characters that the catalog keeps of a kind


@dataclass(frozen=True, slots=True)
class ProjectionReport:
    """One projection of a collection."""

    name: str
    kind: str  # "raw", "shipped", "head" or "fitted"
    revision: str
    dim: int
    used: bool
    created_at: datetime | None  # None: raw vectors are always there
    report: Mapping[str, Any]  # settings and figures


@dataclass(frozen=True, slots=True)
class ProjectionFigures:
    """How well one projection finds the same emotion in other speakers, beside the raw vectors."""

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


def list_projections(context: AnalysisContext) -> tuple[ProjectionReport, ...]:
    """Return every projection, the raw vectors first.

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
    progress: ProgressCallback | None = None,
) -> ProjectionReport:
    """Fit a projection to labelled segments, and store it.

    Args:
        context: the collection's. Labelled files that it holds are read from it, others are embedded.
        labels: a CSV file, see `labels_table.read`; None: the collection's own labels.
        name: of the projection; one of that name is replaced.
        share: of nuance beside the emotion part, 0 to 1; chosen by cross-validation if None.
        force: replace a better one.
        seed: of the folds.
        progress: called after every file that is embedded.

    Returns:
        The projection, with its mAP on held-out speakers, and that of raw vectors.

    Raises:
        TooFewExamples: too few labelled segments, speakers or emotions.
        AnalysisError: the projection in use, or the one that it would replace, does better.
        SettingsError: the table cannot be read.
        QueryError: a name or share that cannot be.
    """
    name = _checked(name, share)
    found = from_labels(context) if labels is None else from_table(context, labels, progress)
    digest = found.digest()
    dim = context.catalog.require_space().dim
    on = context.view().projection.name
    rivals = [each for each in stored.listed(context.catalog) if each.name in (name, on)]
    # one fitted to the same segments was trained on what is held out here: its own report is the fair figure
    known = {each.name: each.report["map"] for each in rivals if each.report.get("data") == digest}
    centre, _ = _sample(context, seed)
    chosen = discriminant.fit(
        found.vectors,
        found.emotions,
        found.speakers,
        found.texts,
        name=name,
        centre=centre if len(centre) >= heads.LEAST_SEGMENTS else None,  # a few segments have no scatter
        share=share,
        rivals={each.name: load_projection(each, dim) for each in rivals if each.name not in known},
        seed=seed,
    )
    figures = {**known, **chosen.map_of, **({RAW.name: chosen.map_raw} if on == RAW.name else {})}
    better = [f"{rival} reaches {value:.3f}" for rival, value in figures.items() if value > chosen.map]
    if better and not force:
        raise AnalysisError(
            f"the new projection's mAP on speakers held out is {chosen.map:.3f}, and {', '.join(better)} there - "
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
    """Fit a projection to the encoder's classifier head and the collection, without labels, and store it.

    It is the one that a collection adopts by itself where its encoder ships none (`e2vsearch.projections.refit`), but
    is not fitted again as the collection grows. The head is the encoder's, else recovered from scores of stored
    segments.

    Args:
        context: of a collection with 20 segments or more.
        name: of the projection; one of that name is replaced.
        share: of nuance, 0 to 1.
        speaker_keys: columns of the metadata that name who speaks; a channel of a recording is one speaker anyway.
        seed: of the sample, where there are more than 20,000 segments.

    Raises:
        AnalysisError: the encoder has no head.
        TooFewExamples: too few segments.
        QueryError: a name or share that cannot be.
    """
    name = _checked(name, share)
    vectors, ids = _sample(context, seed)
    head, source = _head(context, vectors, ids)
    speakers = _speakers(context, ids, speaker_keys)
    projection = adapt.adapt_head(head, vectors, speakers, name=name, share=share)
    report = {"segments": len(ids), "speakers": int(np.unique(speakers).size), "head": source, "share": share}
    return _store(context, projection, report)


def fit_plugin(
    context: AnalysisContext,
    kind: str,
    labels: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    progress: ProgressCallback | None = None,
) -> ProjectionReport:
    """Fit a projection of a plug-in to labelled segments, and store it; `compare` measures it.

    Args:
        context: the collection's.
        kind: the plug-in's name.
        labels: a CSV file, see `labels_table.read`; None: the collection's own labels.
        name: of the projection, the plug-in's by default; one of that name is replaced.
        progress: called after every file that is embedded.

    Raises:
        QueryError: there is no such plug-in, or a name that cannot be.
        PluginRefused: it cannot be used.
    """
    plugin = plugins.load("projection", kind)
    if plugin is None or len(kind) > _MAX_KIND:
        known = ", ".join(plugins.names("projection")) or "none are installed"
        raise QueryError(f"there is no plug-in {kind[:80]!r} for projections - known: {known}")
    name = _checked(name or kind, None)
    found = from_labels(context) if labels is None else from_table(context, labels, progress)
    parameters = plugin.fit(found.vectors, found.emotions, found.speakers)
    projection = plugin.unpack(parameters, name, context.catalog.require_space().dim)
    report = {"plugin": plugins.origin("projection", kind), "examples": len(found.emotions)}
    now = datetime.now(UTC)
    made = StoredProjection(name, kind, projection.revision, parameters, report, now)
    stored.put(context.catalog, made)
    return _report(context, made)


def compare(
    context: AnalysisContext,
    labels: str | os.PathLike[str],
    *,
    seed: int = 0,
    draws: int = 6_000,
    progress: ProgressCallback | None = None,
) -> tuple[ProjectionFigures, ...]:
    """Return the figures of every projection on labelled files, raw vectors first.

    One that was fitted to these very files looks better than it is; its report has the figures on held-out speakers.

    Args:
        context: the collection's. Labelled files that it holds are read from it, others are embedded.
        labels: a CSV file, see `labels_table.read`.
        seed: of triplets and intervals.
        draws: triplets of each kind.
        progress: called after every file that is embedded.

    Raises:
        TooFewExamples: too few labelled segments or emotions.
        SettingsError: the table cannot be read.
    """
    found = from_table(context, labels, progress)
    used = context.view().projection.name
    dim = context.catalog.require_space().dim
    projections = [RAW, *(load_projection(each, dim) for each in stored.listed(context.catalog))]
    return tuple(_compared(found, each, each.name == used, seed, draws) for each in projections)


def use(context: AnalysisContext, name: str) -> BuildReport | None:
    """Search through a projection from now on, in every process; ``raw`` for none.

    Its index is built first where one is due, so that no query waits. Nothing is ingested again.

    Returns:
        The report of the build, None if none was due.

    Raises:
        NotStored: there is no such projection.
        GenerationBusy: another process is building its index.
    """
    if name == RAW.name:
        refit.install_recovered_head(context.catalog)  # else the next ingest would, raw vectors not being chosen yet
    view = context.view_of(name)
    built = view.index.build() if view.index.due() else None
    stored.use(context.catalog, None if name == RAW.name else name)
    return built


def drop(context: AnalysisContext, name: str) -> None:
    """Delete a projection and its index; raw vectors are searched from then on if it was in use.

    Raises:
        NotStored: there is no such projection.
        QueryError: it is the raw vectors, or the one that the collection adopted by itself.
    """
    if name == RAW.name:
        raise QueryError("raw vectors are always there - name another projection: e2vsearch projection list")
    found = stored.get(context.catalog, name)
    if found.kind == network.KIND:
        raise QueryError(f"{name} ships with the encoder - put another to use instead: e2vsearch projection use raw")
    if found.report.get(refit.ADOPTED):
        raise QueryError(f"{name} is made by itself - put another to use instead: e2vsearch projection use raw")
    context.drop_index(found.revision)
    stored.drop(context.catalog, name)


def _compared(found: TrainingData, projection: Projection, used: bool, seed: int, draws: int) -> ProjectionFigures:
    vectors = projection.apply(found.vectors)
    speakers = found.speakers if found.named else None
    figures = metrics.measure(vectors, found.emotions, speakers, found.texts, seed, recordings=found.files, draws=draws)
    ranking = figures.other_speakers if found.named else figures.everyone
    leak, gain = figures.same_speaker, None
    if projection.kind != RAW.kind:
        args = (found.emotions, found.speakers, seed)
        gain = metrics.gain(vectors, found.vectors, *args, recordings=found.files)
    return ProjectionFigures(
        name=projection.name,
        kind=projection.kind,
        used=used,
        n=figures.n,
        map=ranking.map if ranking else None,
        map_interval=ranking.map_interval if ranking else None,
        map_chance=ranking.map_chance if ranking else None,
        precision_at_10=ranking.precision_at_10 if ranking else None,
        same_speaker_at_10=leak.at_10 if leak else None,
        same_speaker_chance=leak.chance if leak else None,
        triplets={kind: each.accuracy for kind, each in figures.triplets.items()},
        gain=gain.map if gain else None,
        gain_interval=gain.map_interval if gain else None,
    )


def _sample(context: AnalysisContext, seed: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Return the encoder's vectors of the collection and their ids; of many, a sample."""
    context.catalog.require_space()
    batch = sample_segments(context.catalog, seed)
    return batch.vectors, batch.ids


def _head(context: AnalysisContext, vectors: Vectors, ids: NDArray[np.int64]) -> tuple[Head, str]:
    """Return the encoder's head, and where it comes from."""
    space = context.catalog.require_space()
    if not space.labels:
        raise AnalysisError(
            f"{space.encoder} has no classes, and so no head - fit one to labels: e2vsearch projection fit"
        )
    if context.catalog.encoder_source != SAVED:
        try:
            head = context.encoder().head()
        except E2vsearchError:  # it cannot be opened here; its scores are stored
            head = None
        if head is not None:
            return head, refit.OWN
    ids_scored, scores = segments.scores(context.catalog, ids)
    if not len(scores):
        raise AnalysisError(f"no segment has {space.encoder}'s scores to find its head by - fit one to labels instead")
    head = heads.recover_head(vectors[np.isin(ids, ids_scored)], scores)
    return head, f"found by the scores of {len(scores)} segments"


def _speakers(context: AnalysisContext, ids: NDArray[np.int64], keys: Sequence[str]) -> NDArray[np.int64]:
    """Return each segment's speaker: named by metadata, else a recording's channel."""
    names: dict[int, tuple[str, ...]] = {}
    if keys:
        for number, recording in context.catalog.recordings():
            names[number] = tuple(recording.metadata.get(key, "") for key in keys)
    return speakers_of(context.catalog, ids, names)


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
        raise QueryError(f"the share of nuance runs from 0 to 1, not {share:g}")
    return plain


class Projections(AnalysisContext):
    """The facet `Collection.projections`."""

    list = list_projections
    fit = fit
    fit_head = fit_head
    fit_plugin = fit_plugin
    compare = compare
    use = use
    drop = drop
