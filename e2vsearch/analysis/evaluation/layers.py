"""Evaluation of an encoder block by block and projection by projection.

Cosines of emotion2vec's vectors agree with listeners on emotion the less, the deeper the block (arXiv 2604.26347), and
its linear head is a cure (`e2vsearch.projections.adapt`). A row is the mean over time after one transformer block, raw
or through one projection of the head: its log-posteriors, `head`, `head` adapted as a collection adopts it. None of
them takes labels.

The model's own head is for the last block. For every other block heads are fitted by least squares to the model's class
probabilities of the same clips, and each clip is a query through one that is fitted to the other four fifths. Fitted to
all, a head repeats each clip's own probabilities: 480 vectors of 1,024 numbers without any emotion in them have .76 mAP
through its log-posteriors, .26 through those of other folds, .21 as they are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import adaptation
from e2vsearch.analysis.evaluation.dataset import ProgressCallback, embed_table
from e2vsearch.analysis.evaluation.evaluate import encoder_of, notes_on_labels, too_few
from e2vsearch.analysis.evaluation.labels_table import LabelTable, read
from e2vsearch.analysis.evaluation.metrics import DRAWS
from e2vsearch.analysis.evaluation.metrics import measure as measured
from e2vsearch.analysis.evaluation.triplets import KINDS
from e2vsearch.analysis.evaluation.types import Figures, LayerEvaluation, LayerRow
from e2vsearch.encoders.base import Embeddings, Encoder
from e2vsearch.errors import EncoderError, SettingsError, TooFewExamples
from e2vsearch.projections import adapt
from e2vsearch.projections.base import RAW, Projection, softmax
from e2vsearch.projections.head import LEAST_SEGMENTS, head_projection, recover_head
from e2vsearch.types import Head
from e2vsearch.vectors.exact import unit

Vectors = NDArray[np.float32]
Folds = NDArray[np.int64]
Projections = Callable[[Vectors], Mapping[str, Projection]]
"""``(n, dim)`` of a block → projections by name, made for these."""
Measure = Callable[[Vectors, Vectors | None], Figures]
LOG_POSTERIORS, HEAD, ADAPTED = "log-posteriors", "head", "adapted"
FOLDS = 5
"""Of clips, for heads that are fitted."""

_LEAST_FITTED = LEAST_SEGMENTS * FOLDS // (FOLDS - 1)  # clips, so that four fifths are enough to fit a head to


def evaluate_layers(
    labels: str | os.PathLike[str] | LabelTable,
    encoder: str | Encoder | None = None,
    *,
    layers: bool = True,
    projections: bool = True,
    seed: int = 0,
    draws: int = DRAWS,
    progress: ProgressCallback | None = None,
) -> LayerEvaluation:
    """Measure how well each block of an encoder finds the same emotion in other speakers, through each projection.

    Args:
        labels: a CSV file, see `labels_table.read`, or the table.
        encoder: a name or an open encoder; by default as for `evaluate`.
        layers: every block, not the encoder's vector alone; of emotion2vec.
        projections: raw, log-posteriors, head and adapted, or raw and what ships with the encoder; not raw alone.
        seed: of triplets, intervals, folds and the order of ties.
        draws: triplets of each kind.
        progress: called after every file.

    Raises:
        EncoderError: the encoder cannot be opened, gives no blocks, or has nothing that a projection is made of.
        TooFewExamples: too few labelled items can be used.
        SettingsError: the table cannot be read, or no triplets are to be drawn.
    """
    if draws < 1:
        raise SettingsError(f"draws must be 1 or more, not {draws}")
    table = labels if isinstance(labels, LabelTable) else read(labels)  # before an encoder takes its time to open
    opened = encoder_of(encoder)
    if layers and not opened.blocks:
        raise EncoderError(
            f"{opened.space.encoder} gives one vector a clip and none a block - leave layers out, or take "
            "emotion2vec_plus_large or the path of an emotion2vec folder"
        )
    if projections and opened.head() is None and (layers or opened.projection() is None):
        raise EncoderError(
            f"{opened.space.encoder} has no head that projections are made of - leave projections out, or take "
            "emotion2vec_plus_large"
        )
    material = embed_table(table, _Layers(opened) if layers else opened, seed=seed, progress=progress)
    clips = len(material.rows)
    least = _LEAST_FITTED if layers else LEAST_SEGMENTS
    if projections and clips < least:
        error = TooFewExamples(
            f"{clips} clips are too few to make projections of - label {least} or more, or leave projections out"
        )
        raise too_few(error, material)
    vectors = material.vectors["clean"].reshape(clips, opened.blocks if layers else 1, opened.space.dim)
    emotions, speakers = [row.emotion for row in material.rows], [row.speaker for row in material.rows]
    texts = [row.text for row in material.rows]

    def measure(queries: Vectors, gallery: Vectors | None) -> Figures:
        return measured(
            queries, emotions, speakers, texts, seed, recordings=material.files, gallery=gallery, draws=draws
        )

    folds = folds_of(clips, seed)
    nothing: list[list[Projections]] = [[]] * vectors.shape[1]
    made, notes = _projections(opened, vectors, folds) if projections else (nothing, [])
    try:
        found = list(layer_figures(vectors, made, folds, measure))
    except TooFewExamples as error:
        raise too_few(error, material) from error
    unmeasured = notes_on_labels(found[0][2], speakers, texts)
    return LayerEvaluation(
        rows=tuple(_row(block if layers else opened.blocks or None, name, each) for block, name, each in found),
        n=clips,
        space=opened.space,
        emotions=dict(sorted(Counter(emotions).items())),
        speakers=len({*speakers} - {""}),
        texts=len({*texts} - {""}),
        seed=seed,
        draws=draws,
        failures=material.failures,
        notes=(*notes, *unmeasured),
    )


def layer_figures(
    vectors: Vectors, projections: Sequence[Sequence[Projections]], folds: Folds, measure: Measure
) -> Iterator[tuple[int, str, Figures]]:
    """Yield the number of each block, from 1, with each projection's name and figures; raw first.

    Args:
        vectors: ``(n, blocks, dim)`` of the blocks.
        projections: of each block: none, one for all queries, or one for the queries of each fold.
        folds: ``(n,)``: which one each clip belongs to.
        measure: gives the figures of queries ``(n, any)`` in a gallery of that shape, of None in themselves.
    """
    for at, of_block in enumerate(projections):
        own = np.ascontiguousarray(vectors[:, at])
        yield at + 1, RAW.name, measure(own, None)
        made = [each(own) for each in of_block]
        for name in made[0] if made else ():
            parts = [unit(each[name].apply(own)).astype(np.float32) for each in made]
            if len(parts) == 1:
                yield at + 1, name, measure(parts[0], None)
                continue
            # side by side, a query being zero but for its own fold's part: its cosines are those of that projection
            queries = [np.where((folds == fold)[:, None], part, np.float32(0)) for fold, part in enumerate(parts)]
            yield at + 1, name, measure(np.concatenate(queries, axis=1), np.concatenate(parts, axis=1))


def heads(vectors: Vectors, head: Head, folds: Folds) -> list[list[Head]]:
    """Return each block's heads for the queries of each fold, fitted without the fold; the last block's own head.

    Args:
        vectors: ``(n, blocks, dim)`` of the blocks.
        head: of the last block; a clip's probabilities are those of its mean vector there.
        folds: ``(n,)``, as `folds_of` gives them.

    Raises:
        TooFewExamples: there is another block, and fewer than 20 vectors to fit a head to.
    """
    scores = softmax(vectors[:, -1].astype(np.float64) @ head.weights.T + head.biases)
    others = [folds != fold for fold in range(FOLDS)]
    fitted = [[recover_head(vectors[of, at], scores[of]) for of in others] for at in range(vectors.shape[1] - 1)]
    return [*fitted, [head]]


def folds_of(clips: int, seed: int) -> Folds:
    """Return each clip's fold ``(n,)``, of `FOLDS` of about one size."""
    return np.asarray(np.random.default_rng(seed).permutation(clips) % FOLDS)


def projections_of(head: Head) -> Projections:
    """Return what makes the projections of a head, each vector counting as a speaker of its own."""

    def made(vectors: Vectors) -> Mapping[str, Projection]:
        speakers = np.arange(len(vectors))
        return {
            LOG_POSTERIORS: adapt.log_posteriors(head, vectors),
            HEAD: head_projection(vectors, speakers, head.weights),
            ADAPTED: adapt.adapt_head(head, vectors, speakers),
        }

    return made


def _shipped(encoder: Encoder) -> Projections:
    """Return what makes the shipped projection, centred on the vectors."""
    ships = adaptation.default(encoder)

    def made(vectors: Vectors) -> Mapping[str, Projection]:
        projection = ships(vectors)
        return {projection.name: projection}

    return made


def _row(block: int | None, projection: str, found: Figures) -> LayerRow:
    ranking, leak = found.other_speakers, found.same_speaker
    return LayerRow(
        block=block,
        projection=projection,
        map=ranking.map if ranking else None,
        map_interval=ranking.map_interval if ranking else None,
        map_chance=ranking.map_chance if ranking else None,
        triplets={kind: found.triplets[kind].accuracy if kind in found.triplets else None for kind in KINDS},
        leak=leak.ratio if leak else None,
    )


def _projections(encoder: Encoder, vectors: Vectors, folds: Folds) -> tuple[list[list[Projections]], list[str]]:
    """Return the projections of each block, and notes on them."""
    head = encoder.head()
    if head is None:
        return [[_shipped(encoder)]], []
    blocks = vectors.shape[1]
    notes = []
    if blocks > 1:
        notes.append(
            f"the head is that of block {blocks}: for other blocks heads are fitted by least squares to its class "
            "probabilities of the clips, and a clip is a query through one fitted to four fifths of them, without it"
        )
    found = heads(vectors, head, folds)
    same = [str(at + 1) for at, of in enumerate(found) if not any(adapt.can_adapt(each, vectors[:, at]) for each in of)]
    if same:
        where = f" in blocks {', '.join(same)}" if len(same) < blocks else ""
        notes.append(
            f"{ADAPTED} is as {HEAD}{where}: a head is adapted to more than {adapt.FROM} clips that are of several "
            "emotions by its probabilities"
        )
    return [[projections_of(each) for each in of] for of in found], notes


class _Layers(Encoder):
    """An encoder whose vectors are all blocks of another one, joined, so that files are embedded as for any encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self.space = replace(encoder.space, dim=encoder.blocks * encoder.space.dim, labels=())
        self.min_samples = encoder.min_samples
        self._encoder = encoder

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        return Embeddings(np.stack([self._encoder.layers(each).reshape(-1) for each in signals]))
