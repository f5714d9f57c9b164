"""How well an encoder's raw cosine finds the same emotion in other voices, beside chance and a plain baseline.

    python benchmarks/retrieval.py --audio ../shared/audio/emodb
    python benchmarks/retrieval.py --audio crema_d/labels.csv --encoder emotion2vec_plus_large --json retrieval.json

Point `--audio` at any `labels.csv` (or its folder) with the columns path, speaker and emotion; paths are relative to
it. Each clip is embedded whole, without voice activity detection, and cut at 30 s. Each clip in turn is the query; the
clips of its own speaker are left out of the ranking, so that a likeness of voice earns nothing. A query whose emotion
no other speaker shows is not counted.

The baseline is the mean and deviation over time of 80 log-mel bands and of their slopes, z-scored with the clips' own
statistics, which flatters it: the encoder under test has seen nothing of these clips.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _table import Row, parser, show
from numpy.typing import NDArray

from e2vsearch import audio, encoders
from e2vsearch.encoders.mel import log_mel
from e2vsearch.errors import E2vsearchError, SettingsError

QUICK_CLIPS = 150
_DEPTH = 10  # of precision


@dataclass(frozen=True, slots=True)
class Clips:
    """Labelled clips, in the order of their `labels.csv`."""

    signals: list[NDArray[np.float32]]  # each (samples,) at 16 kHz, at most 30 s
    speakers: NDArray[np.str_]
    emotions: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over queries, and what a random ranking would have got."""

    average_precision: float
    precision: float  # of the first ten
    chance_average_precision: float
    chance_precision: float
    by_emotion: dict[str, tuple[float, float]]  # emotion → average precision, and by chance


def read(labels: Path, limit: int | None = None) -> Clips:
    """The clips that `labels` names, or `limit` of them spread evenly over the file.

    Raises:
        SettingsError: a column is missing, or nobody can be left out.
        AudioError: a clip cannot be read.
    """
    with labels.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if len({row.get("speaker") for row in rows} - {None}) < 2 or not {"path", "emotion"} <= set(rows[0]):
        raise SettingsError(f"{labels} needs the columns path, speaker and emotion, and two speakers or more")
    if limit is not None and limit < len(rows):
        rows = [rows[index] for index in np.linspace(0, len(rows) - 1, limit).astype(int)]
    longest = int(encoders.MAX_SIGNAL_S * audio.SAMPLING_RATE_HZ)
    # the first channel: corpora of acted emotion are mono
    return Clips(
        signals=[audio.read(labels.parent / row["path"])[0, :longest] for row in rows],
        speakers=np.array([row["speaker"] for row in rows]),
        emotions=np.array([row["emotion"] for row in rows]),
    )


def retrieve(vectors: NDArray[np.float32], speakers: NDArray[np.str_], emotions: NDArray[np.str_]) -> Figures:
    """Rank every clip's other-speaker clips by cosine, and score the rankings.

    Args:
        vectors: ``(n, dim)``, of any length.
        speakers: ``(n,)``.
        emotions: ``(n,)``.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    asked: list[str] = []
    figures: list[tuple[float, float, float, float]] = []  # average precision, precision, and both by chance
    for query in range(len(vectors)):
        others = speakers != speakers[query]
        relevant = emotions[others] == emotions[query]
        if not relevant.any():
            continue
        ranked = relevant[np.argsort(-cosines[query, others], kind="stable")]
        precision_at = np.cumsum(ranked) / np.arange(1, ranked.size + 1)
        found = float(precision_at[ranked].mean()), float(ranked[:_DEPTH].mean())
        figures.append((*found, expected_precision(relevant), float(relevant.mean())))
        asked.append(str(emotions[query]))
    table, queries = np.array(figures), np.array(asked)
    average, precision, chance_average, chance_precision = (float(mean) for mean in table.mean(axis=0))
    return Figures(
        average,
        precision,
        chance_average,
        chance_precision,
        {
            name: (float(table[queries == name, 0].mean()), float(table[queries == name, 2].mean()))
            for name in sorted(set(asked))
        },
    )


def expected_precision(relevant: NDArray[np.bool_]) -> float:
    """The average precision that a random ranking of `relevant` has in expectation.

    At rank k stands a relevant clip with probability R / N, and (k - 1)(R - 1) / (N - 1) of those before it are too;
    summed over k this is (H + (R - 1) / (N - 1) (N - H)) / N, with H the N-th harmonic number.
    """
    count, hits = relevant.size, int(relevant.sum())
    if count == 1:
        return float(hits)
    harmonic = (1.0 / np.arange(1, count + 1)).sum()
    return float((harmonic + (hits - 1) / (count - 1) * (count - harmonic)) / count)


def baseline(signals: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Log-mel statistics of each signal, z-scored over the signals, ``(n, 320)``."""
    pictures = [log_mel(signal) for signal in signals]
    slopes = [np.gradient(picture, axis=1) for picture in pictures]
    statistics = np.array(
        [
            np.concatenate([part for values in pair for part in (values.mean(axis=1), values.std(axis=1))])
            for pair in zip(pictures, slopes, strict=True)
        ]
    )
    spread = np.maximum(statistics.std(axis=0), 1e-9)
    return np.asarray((statistics - statistics.mean(axis=0)) / spread, np.float32)


def main() -> int:
    """Measure, print, and write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--audio", type=Path, default=Path("../shared/audio/emodb"), help="a labels.csv or its folder (%(default)s)"
    )
    arguments.add_argument("--encoder", default="light", help="any name that `e2vsearch.encoders.open` knows")
    chosen = arguments.parse_args()
    labels = chosen.audio / "labels.csv" if chosen.audio.is_dir() else chosen.audio
    if not labels.is_file():
        print(f"no labels at {labels}: point --audio at a labels.csv with path, speaker and emotion", file=sys.stderr)
        return 1
    try:
        encoder = encoders.open(chosen.encoder)
        clips = read(labels, QUICK_CLIPS if chosen.quick else None)
        vectors = np.concatenate([encoder.encode([signal]).vectors for signal in clips.signals])
    except E2vsearchError as error:
        print(error, file=sys.stderr)
        return 1
    ours = retrieve(vectors, clips.speakers, clips.emotions)
    plain = retrieve(baseline(clips.signals), clips.speakers, clips.emotions)
    title = (
        f"{encoder.space} on {len(clips.signals)} clips of {len(set(clips.speakers))} speakers, own speaker left out"
    )
    show(title, _rows(chosen.encoder, ours, plain), chosen.json)
    return 0


def _rows(name: str, ours: Figures, plain: Figures) -> list[Row]:
    def compare(row: str, value: float, beside: str, other: float) -> Row:
        return Row(row, value, "", value / other, beside)

    rows = [
        Row("chance mAP", ours.chance_average_precision),
        compare("log-mel statistics mAP", plain.average_precision, "chance mAP", plain.chance_average_precision),
        compare(f"{name} mAP", ours.average_precision, "log-mel statistics mAP", plain.average_precision),
        Row("chance precision@10", ours.chance_precision),
        compare("log-mel statistics precision@10", plain.precision, "chance precision@10", plain.chance_precision),
        compare(f"{name} precision@10", ours.precision, "log-mel statistics precision@10", plain.precision),
    ]
    rows += [
        compare(f"{name} mAP, {emotion}", value, f"chance mAP, {emotion}", chance)
        for emotion, (value, chance) in ours.by_emotion.items()
    ]
    return rows


if __name__ == "__main__":
    sys.exit(main())
