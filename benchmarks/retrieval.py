"""How well an encoder finds the same emotion in other voices and other words, beside chance and a plain baseline.

    python benchmarks/retrieval.py --audio ../shared/audio/emodb
    python benchmarks/retrieval.py --audio crema_d/labels.csv --encoder emotion2vec_plus_large --json retrieval.json
    python benchmarks/retrieval.py --all --encoder out/held-out --reverse out/reverse

Point `--audio` at `labels.csv` files (or their folders) with the columns path, emotion, speaker and text. The figures
are those of `e2vsearch evaluate`, for each clip as it is and for a telephone copy of it. Without a corpus, clips are
made: that shows that the benchmark runs, and nothing about people.

`--all` prints the yardstick that a projection is judged by, one line a condition: clean clips, telephone copies, labels
as acted and as most raters heard them, one mood per voice, adapted on skewed mixes, and calls composed of clips; mAP
through the projection that a collection adopts by itself beside that of the encoder's own vectors, and below it what
the vectors still carry of voice and words. `--encoder` must have heard neither EMO-DB nor the fifteen voices of CREMA-D
that training holds out; `--reverse`, nothing of CREMA-D.

The baseline is the mean and deviation over time of 80 log-mel bands and of their slopes, raw and z-scored with the
searched clips' own statistics, which flatters it: the encoder under test has seen nothing of these clips. (`light` as
it ships has heard CREMA-D and EMO-DB: its figures there are no proof. `training/train_light.py` makes `out/held-out`,
to be taken as `--encoder`, which has not heard EMO-DB.)
"""

from __future__ import annotations

import csv
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import _yardstick
import numpy as np
from _table import Row, parser, show
from numpy.typing import NDArray

from e2vsearch import audio
from e2vsearch.analysis.evaluation import dataset, evaluate, labels_table
from e2vsearch.analysis.evaluation.types import Evaluation, Figures
from e2vsearch.encoders import base, registry
from e2vsearch.encoders.base import Embeddings, Encoder
from e2vsearch.encoders.mel import MIN_SAMPLES, log_mel
from e2vsearch.errors import E2vsearchError, SettingsError
from e2vsearch.types import Space

CLIPS, QUICK_CLIPS = 1500, 150  # of a corpus, about
_DEFAULT = tuple(Path("../shared/audio") / name for name in ("emodb", "crema_d"))
_VOTES = Path("../shared/audio/crema_d/voice_votes.csv")
_MADE_S = 1.5


@dataclass(frozen=True, slots=True)
class Clips:
    """Labelled clips, in the order of their `labels.csv`."""

    signals: list[NDArray[np.float32]]  # each (samples,) at 16 kHz, at most 30 s
    speakers: NDArray[np.str_]
    emotions: NDArray[np.str_]


class LogMelStatistics(Encoder):
    """Mean and deviation over time of log-mel bands and of their slopes: what a network has to beat."""

    def __init__(self) -> None:
        """Nothing to load."""
        self.space = Space("log-mel", "statistics-1", 320)
        self.min_samples = max(MIN_SAMPLES, 640)

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        return Embeddings(statistics(signals).astype(np.float32))


def read(labels: Path, limit: int | None = None) -> Clips:
    """Return the clips that `labels` names, or `limit` of them spread evenly over the file.

    Raises:
        SettingsError: a column is missing, or nobody can be left out.
        AudioError: a clip cannot be read.
    """
    table = _spread(labels_table.read(labels), limit)
    if len({row.speaker for row in table.rows} - {""}) < 2:
        raise SettingsError(f"{labels} needs the columns path, speaker and emotion, and two speakers or more")
    longest = int(base.MAX_SIGNAL_S * audio.SAMPLING_RATE_HZ)
    # the first channel: corpora of acted emotion are mono
    return Clips(
        signals=[audio.read(table.file(row))[0, :longest] for row in table.rows],
        speakers=np.array([row.speaker for row in table.rows]),
        emotions=np.array([row.emotion for row in table.rows]),
    )


def statistics(signals: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Log-mel statistics of each signal, ``(n, 320)``."""
    pictures = [log_mel(signal) for signal in signals]
    slopes = [np.gradient(picture, axis=1) for picture in pictures]
    return np.array(
        [
            np.concatenate([part for values in pair for part in (values.mean(axis=1), values.std(axis=1))])
            for pair in zip(pictures, slopes, strict=True)
        ]
    )


def z_scored(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each number less its mean, over its deviation."""
    spread = np.maximum(vectors.std(axis=0), 1e-9)
    return np.asarray((vectors - vectors.mean(axis=0)) / spread, np.float32)


def baseline(signals: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Log-mel statistics of each signal, z-scored over the signals, ``(n, 320)``."""
    return z_scored(statistics(signals))


def measure(labels: Path, encoder: Encoder, limit: int) -> dict[str, Evaluation]:
    """Every system's figures on one corpus.

    Raises:
        E2vsearchError: too little of it can be used.
    """
    table = _speakers(labels_table.read(labels), limit)
    ours = dataset.embed_table(table, encoder, ("clean", "telephone"))
    plain = dataset.embed_table(table, LogMelStatistics(), ("clean", "telephone"))
    for failure in (*ours.failures, *plain.failures):
        print(f"left out: {failure.message}", file=sys.stderr)
    return {
        encoder.space.encoder: evaluate.evaluate(ours, condition="all"),
        "log-mel z": evaluate.evaluate(plain, project=z_scored, condition="all"),
        "log-mel raw": evaluate.evaluate(plain),
    }


def rows_of(corpus: str, found: dict[str, Evaluation]) -> Iterator[Row]:
    """Each figure beside chance; per emotion for the encoder alone."""
    for name, each in found.items():
        for heard, figures in each.figures.items():
            head = f"{corpus} {heard.replace('_', ' ')}: {name}"
            yield from _retrieval(head, figures)
            if heard != "telephone_in_clean":
                yield from _carried(head, figures)
    name, each = next(iter(found.items()))
    ranking = each.figures["clean"].other_speakers
    for emotion, of in ranking.by_emotion.items() if ranking is not None else ():
        yield _row(f"{corpus} clean: {name} mAP, {emotion}", of.map, of.map_chance)
    for heard, recall in each.recalls.items():
        yield _row(f"{corpus} {heard}: {name} UAR of its classes", recall.uar, recall.chance)


def _retrieval(head: str, figures: Figures) -> Iterator[Row]:
    rankings = {"": figures.other_speakers, ", other words too": figures.other_speakers_and_texts}
    for what, ranking in rankings.items():
        if ranking is not None:
            yield _row(f"{head} mAP{what}", ranking.map, ranking.map_chance, ranking.map_interval)
            interval = ranking.precision_at_10_interval
            yield _row(f"{head} precision@10{what}", ranking.precision_at_10, ranking.precision_chance, interval)


def _carried(head: str, figures: Figures) -> Iterator[Row]:
    for what, leak in (("speaker", figures.same_speaker), ("text", figures.same_text)):
        if leak is not None:
            yield _row(f"{head} same {what} in the top 10", leak.at_10, leak.chance)
    for kind, drawn in figures.triplets.items():
        yield _row(f"{head} triplets, {kind}", drawn.accuracy, 0.5, drawn.interval)


def _row(name: str, value: float, chance: float, interval: tuple[float, float] | None = None) -> Row:
    unit = f"({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return Row(name, value, unit, value / chance if chance else None, f"chance {chance:.3f}")


def _spread(table: labels_table.LabelTable, limit: int | None) -> labels_table.LabelTable:
    """`limit` of its rows, evenly over the file."""
    if limit is None or limit >= len(table.rows):
        return table
    kept = [table.rows[at] for at in np.linspace(0, len(table.rows) - 1, limit).astype(int)]
    return labels_table.LabelTable(table.folder, tuple(kept), table.failures)


def _speakers(table: labels_table.LabelTable, limit: int) -> labels_table.LabelTable:
    """All clips of some speakers, drawn until there are `limit`; two speakers at least.

    Every fifth clip of a sorted table would leave each speaker certain pairs of emotions in the same words, and the
    triplets with them: on CREMA-D that lifted z-scored log-mel statistics from .43 to .72.
    """
    names = np.random.default_rng(0).permutation(sorted({row.speaker for row in table.rows})).tolist()
    clips = np.cumsum([sum(row.speaker == name for row in table.rows) for name in names])
    chosen = set(names[: max(2, int(np.searchsorted(clips, limit)) + 1)])
    return labels_table.LabelTable(
        table.folder, tuple(row for row in table.rows if row.speaker in chosen), table.failures
    )


def make(folder: Path) -> Path:
    """Make a corpus of buzzes: speakers differ in pitch, emotions in rhythm and swing, texts in formants."""
    t = np.arange(round(_MADE_S * audio.SAMPLING_RATE_HZ)) / audio.SAMPLING_RATE_HZ
    rng = np.random.default_rng(0)
    rows = [("path", "emotion", "speaker", "text")]
    formants_hz = rng.uniform(300, 3000, (4, 6))
    for speaker, pitch_hz in enumerate((95, 120, 160, 200)):
        for emotion, (rate_hz, swing) in {"calm": (2.5, 0.02), "angry": (5.0, 0.2), "sad": (1.5, 0.08)}.items():
            for text in range(4):
                glide = pitch_hz * (1 + swing * np.sin(2 * np.pi * rate_hz * t + rng.uniform(0, 6)))
                phase = 2 * np.pi * np.cumsum(glide) / audio.SAMPLING_RATE_HZ
                formant_hz = formants_hz[text][(t / _MADE_S * 6).astype(int)]
                parts = [np.exp(-(((k * pitch_hz - formant_hz) / 400) ** 2)) * np.sin(k * phase) for k in range(1, 18)]
                level = 0.1 + 0.9 * np.abs(np.sin(np.pi * rate_hz * t))
                signal = 0.1 * level * np.sum(parts, axis=0) + 0.003 * rng.standard_normal(t.size)
                name = f"{speaker}_{emotion}_{text}.wav"
                audio.write(folder / name, signal.astype(np.float32)[None])
                rows.append((name, emotion, str(speaker), str(text)))
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def everything(corpora: Sequence[Path], chosen: Namespace) -> int:
    """Print the yardstick, and write its JSON."""
    try:
        encoder = registry.open(chosen.encoder)
        reverse: Encoder | None = registry.open(chosen.reverse) if chosen.reverse else encoder
        if chosen.encoder == "light":
            print("light as it ships has heard both corpora: its figures here are no proof", file=sys.stderr)
        if reverse is encoder and encoder.space.encoder == "light":
            print(
                "rows of cremad are left out: light has heard CREMA-D - name one that has not with --reverse",
                file=sys.stderr,
            )
            reverse = None
        options = _yardstick.Options(chosen.votes, chosen.cache, chosen.clips, chosen.quick)
        made = _yardstick.lines(corpora, encoder, reverse, options)
    except E2vsearchError as error:
        print(error, file=sys.stderr)
        return 1
    names = [f"{each.space.encoder}@{each.space.revision[:12]}" for each in (encoder, reverse) if each is not None]
    other = "" if reverse is None else f", cremad {names[-1]}"
    title = f"{names[0]}{other}: mAP, the query's speaker left out, 95 % intervals over speakers"
    _yardstick.show(title, made, chosen.json)
    return 0


def main() -> int:
    """Measure, print, and write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("--audio", type=Path, nargs="+", help="labels.csv files or their folders")
    arguments.add_argument("--encoder", default="light", help="any name that `e2vsearch.encoders.registry.open` knows")
    arguments.add_argument(
        "--clips", type=int, default=CLIPS, help="of a corpus, to the next whole speaker (%(default)s)"
    )
    arguments.add_argument("--all", action="store_true", help="the yardstick: every row, default projection and raw")
    arguments.add_argument("--reverse", metavar="FOLDER", help="with --all: an encoder that has heard EMO-DB alone")
    arguments.add_argument("--votes", type=Path, default=_VOTES, help="with --all: what raters heard in CREMA-D")
    arguments.add_argument("--cache", type=Path, metavar="FOLDER", help="with --all: keep embeddings there")
    chosen = arguments.parse_args()
    with ExitStack() as stack:
        there = [path for path in _DEFAULT if path.is_dir()]
        corpora = chosen.audio or there[: 1 if chosen.quick and not chosen.all else None]
        corpora = corpora or [make(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="made-"))))]
        if chosen.all:
            return everything(corpora, chosen)
        rows: list[Row] = []
        titles: list[str] = []
        try:
            encoder = registry.open(chosen.encoder)
            for path in corpora:
                labels = path / "labels.csv" if path.is_dir() else path
                found = measure(labels, encoder, min(chosen.clips, QUICK_CLIPS) if chosen.quick else chosen.clips)
                name = "made audio" if path.name.startswith("made-") else labels.absolute().parent.name
                clips = next(iter(found.values()))
                titles.append(f"{name} ({clips.n} clips, {clips.speakers} speakers)")
                rows += rows_of(name, found)
        except E2vsearchError as error:
            print(error, file=sys.stderr)
            return 1
    title = f"{encoder.space} on {', '.join(titles)}; the query's speaker left out, 95 % intervals over speakers"
    show(title, rows, chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
