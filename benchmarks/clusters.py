"""Do a map's clusters follow emotion, or the voice? And how long does a map of 20,000 segments take?

    python benchmarks/clusters.py --audio ../shared/audio/emodb --audio ../shared/audio/crema_d
    python benchmarks/clusters.py --quick

Point `--audio` at any `labels.csv` (or its folder) with the columns path, speaker and emotion. Each clip is embedded
whole and is one point. The adjusted Rand index is 0 for clusters that have nothing to do with the labels and 1 for
those that are the labels; it is given with points in no cluster counted as a cluster of their own, and with them left
out, as a mean over seeds with its least and greatest value. Chance is the same index with the labels shuffled.

Placing is measured by leaving every fifth point out, and asking where it would have been put.

Without `--audio`, or where there is none, made vectors stand in: twenty voices saying five things, the voice half as
loud as what is said.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _table import Row, parser, show
from numpy.typing import NDArray
from retrieval import read

from e2vsearch.analysis.evaluation import adaptation
from e2vsearch.analysis.maps import layout, transform
from e2vsearch.analysis.maps.types import Layout, MapOptions
from e2vsearch.encoders import base as encoders_base
from e2vsearch.encoders import registry
from e2vsearch.errors import E2vsearchError
from e2vsearch.vectors.exact import unit32

DIM = 384  # of the light encoder
SEEDS = range(42, 62)  # with the same vectors, some give five clusters of EMO-DB and some ten: three seeds told little
TIMED, TIMED_QUICK = 20_000, 2_000
QUICK_CLIPS = 150
LEFT_OUT = 5  # every fifth point is placed by the others


@dataclass(frozen=True, slots=True)
class Labelled:
    """Vectors with what is known of them."""

    name: str
    vectors: NDArray[np.float32]  # (n, dim) unit rows
    emotions: NDArray[np.str_]
    speakers: NDArray[np.str_]


def measure(data: Labelled, seeds: Sequence[int]) -> list[Row]:
    """Agreement of clusters with emotion, with speaker and with chance; and of placing with the map."""
    from sklearn.metrics import adjusted_rand_score

    count = len(data.vectors)
    options = layout.resolve(MapOptions(), count)
    maps = [layout.lay_out(data.vectors, replace(options, seed=seed)) for seed in seeds]
    shuffled = np.random.default_rng(0).permutation(data.emotions)
    rows = [
        Row(f"{data.name}: clusters", float(np.mean([laid.cluster.max() + 1 for laid in maps]))),
        Row(f"{data.name}: share in no cluster", float(np.mean([(laid.cluster < 0).mean() for laid in maps]))),
    ]
    chance = f"{data.name}: ARI with shuffled emotion"
    for named, labels in (("shuffled emotion", shuffled), ("emotion", data.emotions), ("speaker", data.speakers)):
        every = [adjusted_rand_score(labels, laid.cluster) for laid in maps]
        inside = [adjusted_rand_score(labels[laid.cluster >= 0], laid.cluster[laid.cluster >= 0]) for laid in maps]
        beside = None if labels is shuffled else chance
        for what, values in (("", every), (", none left out", inside)):
            spread = f"{min(values):.3f} to {max(values):.3f}"
            rows.append(Row(f"{data.name}: ARI with {named}{what}", float(np.mean(values)), spread, None, beside))
    agreed, near = zip(*(_placed(data.vectors, laid, options.neighbors) for laid in maps), strict=True)
    rows.append(Row(f"{data.name}: placed into the cluster it was in", float(np.mean(agreed))))
    rows.append(Row(f"{data.name}: median distance from where it was", float(np.mean(near)), "of a map 2 wide"))
    return rows


def _placed(vectors: NDArray[np.float32], laid: Layout, neighbors: int) -> tuple[float, float]:
    """Share of left-out points put into their cluster (none counts as one), and how far from their place."""
    out = np.arange(len(vectors)) % LEFT_OUT == 0
    kept = ~out
    put = transform.transform(vectors[out], vectors[kept], laid.take(kept), neighbors)
    apart = np.hypot(put.x - laid.x[out], put.y - laid.y[out])
    return float((put.cluster == laid.cluster[out]).mean()), float(np.median(apart))


def made(count: int, seed: int = 0) -> Labelled:
    """Vectors of twenty voices saying five things: both are directions, and everything else is noise."""
    rng = np.random.default_rng(seed)
    emotion, speaker = rng.integers(0, 5, count), rng.integers(0, 20, count)
    middles, voices = rng.standard_normal((5, DIM)), 0.5 * rng.standard_normal((20, DIM))
    vectors = middles[emotion] + voices[speaker] + rng.standard_normal((count, DIM))
    return Labelled(f"made {count:,}", unit32(vectors), emotion.astype(str), speaker.astype(str))


def recorded(labels: Path, encoder: encoders_base.Encoder, limit: int | None) -> Labelled:
    """Return the clips that `labels` names, each embedded whole, as a collection of them would show them."""
    clips = read(labels, limit)
    heard = [encoder.encode([signal]) for signal in clips.signals]
    vectors = np.concatenate([each.vectors for each in heard])
    vectors = adaptation.default(encoder)(vectors).apply(vectors)
    return Labelled(f"{labels.parent.name} {len(vectors):,}", unit32(vectors), clips.emotions, clips.speakers)


def timed(count: int) -> list[Row]:
    """Seconds that layout and clusters of made vectors take, once umap is compiled."""
    layout.lay_out(made(200).vectors, layout.resolve(MapOptions(), 200))
    vectors = made(count).vectors
    started = time.perf_counter()
    layout.lay_out(vectors, layout.resolve(MapOptions(), count))
    return [Row(f"map of {count:,} x {DIM}", time.perf_counter() - started, "s")]


def main() -> int:
    """Measure, print, and write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("--audio", type=Path, action="append", help="a labels.csv or its folder; may be repeated")
    arguments.add_argument("--encoder", default="light", help="any name that `e2vsearch.encoders.registry.open` knows")
    chosen = arguments.parse_args()
    found = [path / "labels.csv" if path.is_dir() else path for path in chosen.audio or []]
    for labels in found:
        if not labels.is_file():
            print(f"no labels at {labels}: a labels.csv with path, speaker and emotion is needed", file=sys.stderr)
            return 1
    rows: list[Row] = []
    seeds = SEEDS[:1] if chosen.quick else SEEDS
    try:
        if found:
            encoder = registry.open(chosen.encoder)
            for labels in found:
                rows += measure(recorded(labels, encoder, QUICK_CLIPS if chosen.quick else None), seeds)
        else:
            rows += measure(made(1000), seeds)
        rows += timed(TIMED_QUICK if chosen.quick else TIMED)
    except E2vsearchError as error:
        print(error, file=sys.stderr)
        return 1
    show(f"Clusters of a map, {chosen.encoder if found else 'made vectors'}, {len(seeds)} seed(s)", rows, chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
