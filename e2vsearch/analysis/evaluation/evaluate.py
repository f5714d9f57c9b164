"""Evaluation of an encoder or collection on labelled files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from e2vsearch import settings
from e2vsearch.analysis.evaluation import adaptation, yardstick
from e2vsearch.analysis.evaluation.adaptation import Adapt
from e2vsearch.analysis.evaluation.dataset import EvaluationSet, ProgressCallback, embed_table, load_stored
from e2vsearch.analysis.evaluation.labels_table import LabelTable, read
from e2vsearch.analysis.evaluation.metrics import DRAWS, measure
from e2vsearch.analysis.evaluation.metrics import recall as recall_of
from e2vsearch.analysis.evaluation.pooling import by_recording
from e2vsearch.analysis.evaluation.triplets import KINDS
from e2vsearch.analysis.evaluation.types import Condition, Evaluation, Figures, YardstickRow
from e2vsearch.encoders.base import Encoder
from e2vsearch.encoders.registry import open_encoder
from e2vsearch.errors import SettingsError, TooFewExamples
from e2vsearch.pipeline import encoder_for
from e2vsearch.projections import network
from e2vsearch.projections.adapt import NAME as HEAD
from e2vsearch.projections.base import RAW
from e2vsearch.types import By

if TYPE_CHECKING:
    from e2vsearch.analysis.context import AnalysisContext


Project = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""``(n, dim)`` as the encoder made them → ``(n, any)`` to be compared by cosine."""

_CROSSED = "telephone_in_clean"

_CONDITIONS: dict[str, tuple[str, ...]] = {
    "clean": ("clean",),
    "telephone": ("telephone",),
    "all": ("clean", "telephone"),
}


def evaluate(
    labels: str | os.PathLike[str] | LabelTable | EvaluationSet,
    encoder: str | Encoder | None = None,
    project: Project | None = None,
    *,
    context: AnalysisContext | None = None,
    projection: str | None = None,
    by: By = "segment",
    condition: Condition = "clean",
    seed: int = 0,
    draws: int = DRAWS,
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """Measure how well a space finds the same emotion in other speakers and other words, beside chance.

    Where labels allow it, `Evaluation.splits` adds what a corpus of actors hides (`splits`, `yardstick`): one mood per
    voice, and the projection adapted on skewed mixes.

    Args:
        labels: a CSV file, see `labels_table.read`, or the table; or an `EvaluationSet`, of whose conditions
            `condition` chooses.
        encoder: a name or an open encoder that embeds every file; without `context`, by default that of the default
            collection, else the default.
        project: applied to the vectors of each condition before they are compared.
        context: a collection's, whose segments are taken without an encoder, and whose projection in any case.
        projection: of the collection, by name; ``raw`` is none, by default the one in use. Without a collection the one
            that ships with the encoder, if any, centred on each condition's items. With `project`, its name.
        by: ``segment``, or ``recording``: the mean of each channel of a recording, by length of its parts.
        condition: ``clean``, ``telephone`` copies made of every file, or ``all``: both, and telephone queries among
            clean recordings.
        seed: of telephone copies, triplets, intervals and the order of ties.
        draws: triplets of each kind.
        progress: called after every file.

    Raises:
        TooFewExamples: too few labelled items can be used.
        SettingsError: options that exclude each other, or a table that cannot be read.
        EncoderError: the encoder cannot be opened.
        SpaceMismatch: it is not the one that the collection was made with.
        NotStored: the collection has no projection of that name.
    """
    if condition not in _CONDITIONS or by not in ("segment", "recording"):
        raise SettingsError(f"condition is clean, telephone or all, by segment or recording; not {condition!r}, {by!r}")
    if draws < 1:
        raise SettingsError(f"draws must be 1 or more, not {draws}")
    names = _CONDITIONS[condition]
    if projection not in (None, RAW.name, network.NAME, HEAD) and project is None and context is None:
        raise SettingsError(f"projection {projection!r} is stored in a collection: name that as well")
    material = _evaluation_set(labels, encoder, context, names, seed, progress)
    adapt: Adapt | None = None if project is not None else adaptation.raw
    if project is None and context is not None:
        stored = (context.view() if projection is None else context.view_of(projection)).projection
        projection, project, adapt = stored.name, stored.apply, adaptation.of(stored)
    if missing := [name for name in names if name not in material.vectors]:
        raise SettingsError(f"{missing[0]} vectors are missing: name an encoder to embed the files")
    if project is None and projection != RAW.name:
        if projection is not None and material.adapt is adaptation.raw:
            raise SettingsError(f"{material.space.encoder} has no projection of its own - leave --projection out")
        adapt = material.adapt
    vectors = {name: material.vectors[name] for name in names}
    scores = {name: material.scores[name] for name in names}
    if len(material.rows):
        if project is not None:
            beside = context is not None and projection != RAW.name
            vectors |= _projected(material, dict.fromkeys(names, project), raw=beside)
        elif adapt is not None and adapt is not adaptation.raw:
            adapted = {name: adapt(vectors[name]) for name in names}
            own = adapted[names[0]].name
            if projection not in (None, own):
                raise SettingsError(f"{material.space.encoder} is compared through {own!r}, not {projection!r}")
            projection = own
            for name, each in adapted.items():
                # under a uniform prior: clips that are labelled evenly are no conversation
                if isinstance(each, network.NetworkProjection):
                    scores[name] = each.posteriors(vectors[name]).astype(np.float32)
            vectors |= _projected(material, {name: each.apply for name, each in adapted.items()})
    items = replace(material, vectors=vectors, scores=scores)
    notes: list[str] = []
    if by == "recording":
        items, notes = by_recording(items)
    try:
        found = _evaluated(items, _named(project, projection), by, seed, draws)
    except TooFewExamples as error:
        raise too_few(error, material) from error
    splits, unmade = _splits(material, names[0], adapt, by, seed)
    return replace(found, splits=splits, notes=(*notes, *found.notes, *unmade))


def _evaluation_set(
    labels: str | os.PathLike[str] | LabelTable | EvaluationSet,
    encoder: str | Encoder | None,
    context: AnalysisContext | None,
    conditions: Sequence[str],
    seed: int,
    progress: ProgressCallback | None,
) -> EvaluationSet:
    if isinstance(labels, EvaluationSet):
        if encoder is not None:
            raise SettingsError("vectors need no encoder: name the one or the other")
        return labels
    table = labels if isinstance(labels, LabelTable) else read(labels)  # before an encoder takes its time to open
    if context is not None and encoder is None:
        if tuple(conditions) == ("clean",):
            return load_stored(table, context)
        encoder = context.encoder()
    opened = encoder_of(encoder)
    if context is not None:
        context.catalog.require_space()
        context.catalog.check_space(opened.space)
    return embed_table(table, opened, conditions, seed, progress)


def encoder_of(encoder: str | Encoder | None) -> Encoder:
    """Return an encoder, opened by name; by default that of the default collection, else the default.

    Raises:
        EncoderError: it cannot be opened.
        MissingExtra: its packages are not installed.
    """
    if isinstance(encoder, Encoder):
        return encoder
    options = settings.load()
    if encoder is None:
        return encoder_for(options)
    return open_encoder(encoder, options.device, options.precision or "fp32")


def too_few(error: TooFewExamples, material: EvaluationSet) -> TooFewExamples:
    """Return the error with the first of the files that failed."""
    failed = material.failures
    why = f"; {len(failed)} rows failed, the first: {failed[0].message}" if failed else ""
    return TooFewExamples(f"{error}{why}")


def _projected(
    material: EvaluationSet, through: Mapping[str, Project], *, raw: bool = True
) -> dict[str, NDArray[np.float32]]:
    """Return each condition's projected vectors, telephone queries also through the clean projection; and raw ones."""
    first = next(iter(through))
    found = {name: np.asarray(project(material.vectors[name])) for name, project in through.items()}
    if len(through) == 2:
        found[_CROSSED] = np.asarray(through["clean"](material.vectors["telephone"]))
    if raw:
        found[RAW.name] = material.vectors[first]
    return found


def _evaluated(material: EvaluationSet, projection: str, by: By, seed: int, draws: int) -> Evaluation:
    rows, vectors = material.rows, material.vectors
    emotions, speakers = [row.emotion for row in rows], [row.speaker for row in rows]
    texts = [row.text for row in rows]

    def measured(queries: NDArray[np.float32], gallery: NDArray[np.float32] | None = None) -> Figures:
        return measure(
            queries, emotions, speakers, texts, seed, recordings=material.files, gallery=gallery, draws=draws
        )

    conditions = [name for name in vectors if name not in (_CROSSED, RAW.name)]
    found = {name: measured(vectors[name]) for name in conditions}
    if len(conditions) == 2:
        found[_CROSSED] = measured(vectors.get(_CROSSED, vectors["telephone"]), vectors["clean"])
    if RAW.name in vectors:
        found[RAW.name] = measured(vectors[RAW.name])
    recalls = {
        name: made
        for name, scores in material.scores.items()
        if (made := recall_of(scores, material.space.labels, emotions)) is not None
    }
    first = next(iter(found.values()))
    ranking, speaker, text = first.other_speakers, first.same_speaker, first.same_text
    named = recalls.get(next(iter(found)))
    return Evaluation(
        n=len(rows),
        map=ranking.map if ranking else None,
        map_chance=ranking.map_chance if ranking else None,
        precision_at_1=ranking.precision_at_1 if ranking else None,
        precision_at_5=ranking.precision_at_5 if ranking else None,
        precision_at_10=ranking.precision_at_10 if ranking else None,
        precision_chance=ranking.precision_chance if ranking else None,
        same_speaker_at_10=speaker.at_10 if speaker else None,
        same_speaker_chance=speaker.chance if speaker else None,
        same_text_at_10=text.at_10 if text else None,
        same_text_chance=text.chance if text else None,
        triplets={kind: first.triplets[kind].accuracy if kind in first.triplets else None for kind in KINDS},
        uar=named.uar if named else None,
        uar_chance=named.chance if named else None,
        by=by,
        space=material.space,
        projection=projection,
        emotions=dict(sorted(Counter(emotions).items())),
        speakers=len({*speakers} - {""}),
        texts=len({*texts} - {""}),
        seed=seed,
        draws=draws,
        figures=found,
        recalls=recalls,
        failures=material.failures,
        notes=tuple(notes_on_labels(first, speakers, texts)),
    )


def _splits(
    material: EvaluationSet, condition: str, adapt: Adapt | None, by: By, seed: int
) -> tuple[tuple[YardstickRow, ...], list[str]]:
    """Return the figures of splits that acted corpora hide, in one condition, and notes on those left out."""
    names = f"{yardstick.ONE_MOOD} and mixes"
    if adapt is None:
        return (), [f"{names} are left out: a function is not adapted to a collection, as projections are"]
    if by == "recording":
        return (), [f"{names} are left out: they are measured by segment"]
    clips = yardstick.EmbeddedClips(
        {"clean": material.vectors[condition]},
        np.array([row.emotion for row in material.rows]),
        np.array([row.speaker for row in material.rows]),
        recordings=np.array(material.files),
    )
    found = yardstick.rows("", clips, adapt, (yardstick.ONE_MOOD, *yardstick.MIXES), seed=seed)
    return found.rows, list(found.notes)


def _named(project: Project | None, projection: str | None) -> str:
    if projection is not None or project is None:
        return projection or RAW.name
    return str(getattr(project, "__name__", type(project).__name__))


def notes_on_labels(first: Figures, speakers: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Return notes on missing labels, and on figures that need them."""
    notes = []
    for what, given in (("speaker", speakers), ("text", texts)):
        if unknown := given.count(""):
            whose = "no item" if unknown == len(given) else f"{unknown:,} of {len(given):,} items"
            verb = "names its" if unknown == len(given) else "name no"
            notes.append(f"{whose} {verb} {what}: left out wherever {what}s count")
    if first.other_speakers is None and "" not in speakers:
        notes.append("no emotion has two speakers: nothing can be found in other speakers")
    if missing := [kind for kind in KINDS if kind not in first.triplets]:
        notes.append(f"no triplets of {', '.join(missing)}: no item has such a positive and negative")
    return notes
