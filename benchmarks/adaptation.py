"""Retrieval through a linear head, as it is and adapted to a collection, of vectors that follow voice and words.

    python benchmarks/adaptation.py
    python benchmarks/adaptation.py --cache /tmp/pooled --json adaptation.json

emotion2vec's weights are not needed: mean frames of Whisper-tiny.en's encoder after every depth stand for its vectors,
and a linear classifier of one corpus for its head. It is tested on the other corpus, in other voices and another
language. The projection is fitted to all clips, to a mix of which eight of ten are neutral or angry, and to angry ones
alone, and the mAP is that of all, the query's own speaker left out. A collection in production is as one-sided as that.

Without the corpora or Whisper's weights, vectors are made: they show only that the benchmark runs.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _table import Row, parser, show
from _whisper import DEPTHS, WEIGHTS, pooled
from numpy.typing import NDArray

from e2vsearch import audio
from e2vsearch.encoders.base import MAX_SIGNAL_S
from e2vsearch.projections import adapt, discriminant, head
from e2vsearch.projections.base import RAW, Projection
from e2vsearch.types import Head
from e2vsearch.vectors.exact import unit

CLIPS, QUICK_CLIPS = 1500, 240  # of a corpus at most, whole voices where it has more
TESTED, QUICK_TESTED = 600, 150  # clips that ask and are found, spread over those
REFIT_ROUNDS = 5
_CORPORA = tuple(Path("../shared/audio") / name for name in ("crema_d", "emodb"))


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """One corpus: mean frames after every depth, and its labels."""

    name: str
    vectors: NDArray[np.float32]  # (n, depths, dim)
    emotions: NDArray[np.str_]
    speakers: NDArray[np.str_]

    def some(self, count: int) -> Pooled:
        """So many clips at most, spread evenly."""
        chosen = np.unique(np.linspace(0, len(self.emotions) - 1, min(count, len(self.emotions))).astype(int))
        return Pooled(self.name, self.vectors[chosen], self.emotions[chosen], self.speakers[chosen])


def read(folder: Path, clips: int, cache: Path | None) -> Pooled:
    """Return the clips that ``folder/labels.csv`` names, about `clips` of them, of whole voices."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    voices = sorted({row["speaker"] for row in table})
    wanted = max(2, min(len(voices), clips * len(voices) // len(table)))
    chosen = set(voices[:: len(voices) // wanted][:wanted])
    table = [row for row in table if row["speaker"] in chosen]
    kept = cache / f"{folder.name}-{len(table)}.npy" if cache is not None else None
    if kept is not None and kept.is_file():
        vectors = np.load(kept, allow_pickle=False)
    else:
        longest = int(MAX_SIGNAL_S * audio.SAMPLING_RATE_HZ)
        vectors = pooled(audio.read(folder / row["path"])[0, :longest] for row in table)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, vectors, allow_pickle=False)
    emotions, speakers = (np.array([row[key] for row in table]) for key in ("emotion", "speaker"))
    return Pooled(folder.name, vectors, emotions, speakers)


def made(name: str, clips: int, seed: int) -> Pooled:
    """Vectors of which emotion is the least, voice the most."""
    rng = np.random.default_rng(seed)
    names = np.array(["anger", "happiness", "neutral", "sadness", "fear", "disgust"])
    emotions, speakers = rng.integers(len(names), size=clips), rng.integers(12, size=clips)
    directions = np.random.default_rng(0).standard_normal((len(names), 64))  # the same in every corpus
    voices = 3 * rng.standard_normal((12, 64))
    rows = directions[emotions] + voices[speakers] + rng.standard_normal((clips, 64)) + 10
    vectors = np.repeat(rows[:, None].astype(np.float32), len(DEPTHS), axis=1)
    return Pooled(name, vectors, names[emotions], speakers.astype(np.str_))


def trained(of: Pooled, depth: int) -> Head:
    """Train a multinomial logistic classifier of a corpus, over vectors as they are."""
    from sklearn.linear_model import LogisticRegression

    rows = of.vectors[:, depth].astype(np.float64)
    mean, deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    model = LogisticRegression(C=0.01, max_iter=300).fit((rows - mean) / deviation, of.emotions)
    weights = model.coef_ / deviation
    return Head(weights.astype(np.float32), (model.intercept_ - weights @ mean).astype(np.float32))


def mixes(emotions: NDArray[np.str_]) -> dict[str, NDArray[np.int64]]:
    """Which clips projections are fitted to."""
    rng = np.random.default_rng(1)
    found: dict[str, NDArray[np.int64]] = {"all": np.arange(len(emotions))}
    for named, emotion in (("8 of 10 neutral", "neutral"), ("8 of 10 angry", "anger")):
        own, others = np.flatnonzero(emotions == emotion), np.flatnonzero(emotions != emotion)
        found[named] = np.sort(np.concatenate([own, rng.choice(others, len(own) // 4, replace=False)]))
    return {**found, "all angry": np.flatnonzero(emotions == "anger")}


def projections(of: Head, vectors: NDArray[np.float32]) -> Iterator[tuple[str, Projection]]:
    """Yield the projections compared, each fitted to those vectors, without known voices."""
    voices = np.arange(len(vectors))
    yield "raw", RAW
    yield "log-posteriors", adapt.log_posteriors(of, vectors)
    yield "head", head.head_projection(vectors, voices, of.weights)
    yield "adapted", adapt.adapt_head(of, vectors, voices)
    yield "full refit", head.head_projection(vectors, voices, adapt.adapt_weights(of, vectors, REFIT_ROUNDS))


def measure(train: Pooled, test: Pooled, tested: int) -> Iterator[Row]:
    """Yield the mAP of every depth, mix and projection."""
    asked = test.some(tested)
    voices, emotions = (np.unique(names, return_inverse=True)[1] for names in (asked.speakers, asked.emotions))
    for depth, named in enumerate(DEPTHS):
        of = trained(train, depth)
        for mix, chosen in mixes(test.emotions).items():
            first = 0.0
            where = f"{train.name} to {test.name}, {named}, fitted on {mix} ({len(chosen)})"
            for name, projection in projections(of, test.vectors[chosen, depth]):
                shown = unit(projection.apply(asked.vectors[:, depth]))
                found = discriminant.mean_average_precision(shown, emotions, voices, 0)
                assert found is not None
                first = first or found[0]
                raw = name == RAW.name
                yield Row(
                    f"{where}: {name}", found[0], "mAP", None if raw else found[0] / first, None if raw else RAW.name
                )


def summary(rows: list[Row]) -> Iterator[Row]:
    """Yield the worst and the mean of what each step brings over the one before it, over all cells."""
    value = {row.name: row.value for row in rows}
    cells = [name.rpartition(": ")[0] for name in value if name.endswith(": raw")]
    for ours, theirs in (("head", "raw"), ("adapted", "head"), ("adapted", "raw"), ("full refit", "adapted")):
        gains = [value[f"{cell}: {ours}"] - value[f"{cell}: {theirs}"] for cell in cells]
        for what, gain in (("worst", min(gains)), ("mean", float(np.mean(gains)))):
            yield Row(f"{ours} over {theirs}, {what} of {len(cells)} cells", gain, "mAP")


def main() -> None:
    """Measure both ways and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--cache", type=Path, metavar="FOLDER", help="keep pooled frames there between runs")
    options = arguments.parse_args()
    clips, tested = (QUICK_CLIPS, QUICK_TESTED) if options.quick else (CLIPS, TESTED)
    title = "A head of the other corpus, mAP in other voices"
    if WEIGHTS.is_file() and all((folder / "labels.csv").is_file() for folder in _CORPORA):
        corpora = [read(folder, clips, options.cache) for folder in _CORPORA]
    else:
        print("no corpora or no weights of Whisper in ../shared: vectors are made", file=sys.stderr)
        corpora, title = [made(name, clips, seed) for seed, name in enumerate(("one", "other"))], f"{title} (made)"
    rows = [row for train, test in (corpora, corpora[::-1]) for row in measure(train, test, tested)]
    show(title, [*rows, *summary(rows)], options.json)


if __name__ == "__main__":
    main()
