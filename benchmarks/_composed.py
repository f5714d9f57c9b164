"""Calls composed of labelled clips, so that it is known what runs through them, and collections of such calls."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _table import Row
from _yardstick import VOTED, held_out
from numpy.typing import NDArray

import e2vsearch
from e2vsearch import audio
from e2vsearch.analysis.evaluation import bootstrap, labels_table
from e2vsearch.analysis.evaluation.labels_table import LabelTable
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import E2vsearchError

Ints = NDArray[np.int64]
Signal = NDArray[np.float32]

FIRST = 10  # hits that a user looks at

_LEAD_S, _PAUSE_S = 0.5, 1.0  # of silence: a pause of that length ends a segment


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Labelled clips, read when they are needed."""

    name: str
    table: LabelTable
    emotions: NDArray[np.str_]
    voices: NDArray[np.str_]
    texts: NDArray[np.str_]

    @classmethod
    def of(cls, labels: Path) -> Corpus:
        """Return the clips that `labels` names; of CREMA-D those of the voices that training holds out.

        Raises:
            SettingsError: it cannot be read.
        """
        labels = labels / "labels.csv" if labels.is_dir() else labels
        table = labels_table.read(labels)
        name = labels.absolute().parent.name
        corpus = cls._of("made" if name.startswith("made-") else name, table)
        return corpus if name != VOTED else corpus.of_voices(held_out(table))

    @classmethod
    def _of(cls, name: str, table: LabelTable) -> Corpus:
        columns = ([getattr(row, key) for row in table.rows] for key in ("emotion", "speaker", "text"))
        return cls(name, table, *(np.array(column, np.str_) for column in columns))

    def of_voices(self, voices: Sequence[str]) -> Corpus:
        """Return the clips of some voices."""
        rows = tuple(row for row in self.table.rows if row.speaker in voices)
        return self._of(self.name, LabelTable(self.table.folder, rows, self.table.failures))

    def few(self, voices: int, clips: int) -> Corpus:
        """So many clips of each mood of so many voices."""
        kept = {
            int(at)
            for voice in self.everyone[:voices]
            for mood in set(self.emotions.tolist())
            for at in self.of_mood(voice, mood)[:clips]
        }
        rows = tuple(row for at, row in enumerate(self.table.rows) if at in kept)
        return self._of(self.name, LabelTable(self.table.folder, rows, self.table.failures))

    @property
    def everyone(self) -> list[str]:
        """Its voices."""
        return sorted(set(self.voices.tolist()) - {""})

    def of_mood(self, voice: str, emotion: str) -> Ints:
        """Return the clips of one voice in one mood."""
        return np.flatnonzero((self.voices == voice) & (self.emotions == emotion))

    def signal(self, clip: int) -> Signal:
        """Return the samples of one clip, ``(samples,)``.

        Raises:
            AudioError: it cannot be read.
        """
        samples: Signal = audio.read(self.table.file(self.table.rows[clip]))[0]
        return samples


@dataclass(frozen=True, slots=True)
class Bench:
    """The corpus, encoder and settings that all tables share."""

    corpus: Corpus
    encoder: Encoder
    folders: Iterator[Path]  # each for one collection
    asked: int  # clips of each voice
    head: str


@dataclass(frozen=True, slots=True)
class Call:
    """One recording to be stored, with its segments and metadata."""

    name: str
    signals: Sequence[Signal]  # a pause between each two
    metadata: Mapping[str, str] = field(default_factory=dict)


def collected(folder: Path, encoder: Encoder, calls: Sequence[Call]) -> e2vsearch.Collection:
    """Make a collection of these calls, written and ingested as a user would; to be closed by the caller.

    Raises:
        E2vsearchError: one of them cannot be ingested.
    """
    sounds = folder / "audio"
    sounds.mkdir(parents=True)
    columns = list(calls[0].metadata)
    with (folder / "calls.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *columns])
        for call in calls:
            audio.write(sounds / f"{call.name}.wav", joined(call.signals))
            writer.writerow([call.name, *(call.metadata[column] for column in columns)])
    collection = e2vsearch.open(folder / "index", encoder=encoder, create=True)
    report = collection.ingest(sounds, meta=folder / "calls.csv")
    for failure in report.failures:
        raise E2vsearchError(f"{failure.uri} was not ingested: {failure.message}")
    if report.silent:
        print(f"{report.silent} of {report.stored} calls have no speech that was found", file=sys.stderr)
    return collection


def joined(signals: Sequence[Signal]) -> Signal:
    """Signals one after another, silence before, between and after them."""
    pause = np.zeros(round(_PAUSE_S * audio.SAMPLING_RATE_HZ), np.float32)
    lead = pause[: round(_LEAD_S * audio.SAMPLING_RATE_HZ)]
    return np.concatenate([lead, *(part for signal in signals for part in (signal, pause))])


def average_precision(right: NDArray[np.bool_], wanted: int | None = None) -> float:
    """Of one ranking, best first.

    Args:
        right: ``(n,)`` whether each answer is what was wanted.
        wanted: how many there are to find, those that were not answered included; all that were answered by default.
    """
    places = np.flatnonzero(right) + 1
    found = wanted if wanted is not None else places.size
    return float((np.arange(1, places.size + 1) / places).sum() / found) if found else 0.0


def compared(head: str, values: Mapping[str, Sequence[float]], groups: Sequence[str]) -> Iterator[Row]:
    """Means beside the first's, and what each brings over it with the interval of the difference.

    Args:
        head: what was measured.
        values: a number for each query, by what gave it; the simplest comes first.
        groups: who asks, one a query: intervals are over them.
    """
    codes = np.unique(np.array(groups), return_inverse=True)[1]
    first, *_ = values
    base = np.array(values[first], np.float64)
    yield Row(f"{head}: {first}", float(base.mean()), between(bootstrap.interval(base, codes, 0)))
    for name, of in values.items():
        if name == first:
            continue
        each = np.array(of, np.float64)
        gain = each - base
        beside = f"{first}, {gain.mean():+.3f} {between(bootstrap.interval(gain, codes, 0), '+')}".strip()
        ratio = float(each.mean() / base.mean()) if base.mean() else None
        yield Row(f"{head}: {name}", float(each.mean()), between(bootstrap.interval(each, codes, 0)), ratio, beside)


def between(interval: tuple[float, float] | None, sign: str = "") -> str:
    """Return an interval in brackets; nothing where there is none."""
    return f"({interval[0]:{sign}.3f} to {interval[1]:{sign}.3f})" if interval else ""
