"""`retrieval.py --all`: the rows of the yardstick from corpora on disk, each clip encoded once for each condition."""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _probes import NuisanceFigures, nuisance_figures
from _table import Row, write
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import adaptation, dataset, labels_table, yardstick
from e2vsearch.analysis.evaluation.labels_table import LabelTable
from e2vsearch.analysis.evaluation.telephone import TelephoneOptions
from e2vsearch.analysis.evaluation.types import YardstickRow, YardstickSummary
from e2vsearch.analysis.evaluation.yardstick import EmbeddedClips
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import SettingsError

VOTED = "crema_d"
"""The corpus with listeners' votes, of which `light` knows all voices but fifteen."""

HELD_OUT = 15
"""Voices of it that `training/train_light.py` keeps out of training, which draws them as `held_out` here."""

REVERSE_DRAWS = 5
QUICK_VOICES, QUICK_TEXTS, QUICK_DRAWS = 4, 6, 2

_VOTES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
_ONE_CORPUS = tuple(kind for kind in yardstick.KINDS if kind != yardstick.CALLS)
_REVERSE = (yardstick.ACTED, yardstick.HEARD, yardstick.ONE_MOOD)


@dataclass(frozen=True, slots=True)
class Options:
    """Files, sizes and effort of one run."""

    votes: Path
    cache: Path | None
    clips: int  # of the other direction, at most, in whole voices
    quick: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a figure through the default projection, and of the encoder's own vectors."""

    name: str
    default: float
    raw: float
    chance: float | None = None
    default_interval: tuple[float, float] | None = None
    raw_interval: tuple[float, float] | None = None
    gain_interval: tuple[float, float] | None = None


class Vectors:
    """Embeddings of labelled files, each made once; kept in a folder, several projections need no encoding anew."""

    def __init__(self, encoder: Encoder, folder: Path | None) -> None:
        """Nothing is encoded yet.

        Args:
            encoder: what makes the vectors.
            folder: where they are kept, by the space's revision and the condition; None: in memory alone.
        """
        self.encoder = encoder
        self._folder = folder
        self._made: dict[tuple[str, str], dict[str, NDArray[np.float32]]] = {}

    def of(self, corpus: str, table: LabelTable, conditions: Sequence[str]) -> tuple[LabelTable, EmbeddedClips]:
        """Return the rows that could be encoded in every condition, and their vectors.

        Raises:
            EncoderError: as `Encoder.encode` does.
        """
        known = {condition: self._known(corpus, condition) for condition in conditions}
        new = tuple(row for row in table.rows if any(row.path not in each for each in known.values()))
        if new:
            print(f"encoding {len(new):,} clips of {corpus}: {', '.join(conditions)}", file=sys.stderr)
            heard = dataset.embed_table(replace(table, rows=new, failures=()), self.encoder, conditions)
            for failure in heard.failures:
                print(f"left out: {failure.message}", file=sys.stderr)
            for condition in conditions:
                known[condition] |= dict(zip(heard.files, heard.vectors[condition], strict=True))
                self._keep(corpus, condition)
        rows = tuple(row for row in table.rows if all(row.path in each for each in known.values()))
        clips = EmbeddedClips(
            {condition: np.stack([known[condition][row.path] for row in rows]) for condition in conditions},
            np.array([row.emotion for row in rows]),
            np.array([row.speaker for row in rows]),
            np.array([row.text for row in rows]),
        )
        return replace(table, rows=rows), clips

    def _known(self, corpus: str, condition: str) -> dict[str, NDArray[np.float32]]:
        if (corpus, condition) not in self._made:
            file = self._file(corpus, condition)
            self._made[corpus, condition] = {}
            if file is not None and file.is_file():
                with np.load(file) as archive:
                    found = zip(archive["paths"].tolist(), archive["vectors"], strict=True)
                    self._made[corpus, condition] = dict(found)
        return self._made[corpus, condition]

    def _keep(self, corpus: str, condition: str) -> None:
        file = self._file(corpus, condition)
        if file is not None:
            made = self._made[corpus, condition]
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, paths=np.array(list(made)), vectors=np.stack(list(made.values())))

    def _file(self, corpus: str, condition: str) -> Path | None:
        made_by = (str(self.encoder.space), repr(TelephoneOptions()) if condition == "telephone" else "")
        key = hashlib.sha256(repr(made_by).encode()).hexdigest()[:16]
        return None if self._folder is None else self._folder / f"vectors-{key}-{corpus}-{condition}.npz"


def lines(corpora: Sequence[Path], encoder: Encoder, reverse: Encoder | None, options: Options) -> list[Line]:
    """Return the table's lines: every row of every corpus, the means over rows, and what the vectors still carry.

    Args:
        corpora: `labels.csv` files or their folders.
        encoder: for all corpora; of `VOTED`, the voices held out are what is searched.
        reverse: for whole voices of `VOTED`; None: these rows are left out.
        options: the rest.

    Raises:
        E2vsearchError: a corpus cannot be read, or no row can be made of any.
    """
    forward = Vectors(encoder, options.cache)
    backward = forward if reverse is encoder or reverse is None else Vectors(reverse, options.cache)
    found: list[YardstickRow] = []
    beside: list[Line] = []
    draws = QUICK_DRAWS if options.quick else yardstick.DRAWS
    for path in corpora:
        labels = path / "labels.csv" if path.is_dir() else path
        table, corpus = labels_table.read(labels), _named(labels)
        voted = corpus == VOTED
        some = _of_voices(table, held_out(table)) if voted else table
        some = _quick(some) if options.quick else some
        name, kinds = ("crema15", yardstick.KINDS) if voted else (corpus, _ONE_CORPUS)
        some, clips = forward.of(corpus, some, ("clean", "telephone"))
        clips = replace(clips, heard=_heard(some, options.votes)) if voted else clips
        found += _rows(name, clips, forward.encoder, kinds, draws)
        sides = (adaptation.default(encoder), adaptation.raw)
        beside += _beside(name, *(nuisance_figures(clips, adapt) for adapt in sides))
        if voted and reverse is not None:
            other = _quick(table) if options.quick else _whole_voices(table, options.clips)
            other, clips = backward.of(corpus, other, ("clean",))
            clips = replace(clips, heard=_heard(other, options.votes))
            found += _rows("cremad", clips, reverse, _REVERSE, min(draws, REVERSE_DRAWS))
    whole = yardstick.summary(found)
    return [*(_line(row) for row in found), *_means(whole), *beside]


def held_out(table: LabelTable) -> list[str]:
    """Return the voices that training keeps out, of a table of all."""
    voices = np.array(sorted({row.speaker for row in table.rows} - {""}))
    return [str(each) for each in voices[np.random.default_rng(3).permutation(voices.size)[:HELD_OUT]]]


def majorities(votes: Path) -> dict[str, str]:
    """Return the emotion that most raters heard in the voice, by path; "" where two emotions have as many votes.

    Raises:
        SettingsError: the file cannot be read, or lacks a column.
    """
    try:
        with votes.open(encoding="utf-8", newline="") as file:
            found = {}
            for row in csv.DictReader(file):
                counts = {name: float(row[name]) for name in _VOTES}
                most = [name for name, count in counts.items() if count == max(counts.values())]
                found[row["path"]] = most[0] if len(most) == 1 else ""
            return found
    except (OSError, KeyError, ValueError) as error:
        raise SettingsError(
            f"the votes {votes} cannot be read: {error} - name a CSV with path, {', '.join(_VOTES)} with --votes"
        ) from error


def show(title: str, made: Sequence[Line], json_path: Path | None) -> None:
    """Print the table, and write its figures to `json_path` if there is one."""
    cells = [("", "default", "95 %", "raw", "95 %", "default - raw", "95 %", "chance")]
    cells += [
        (
            each.name,
            f"{each.default:.3f}",
            _range(each.default_interval),
            f"{each.raw:.3f}",
            _range(each.raw_interval),
            f"{each.default - each.raw:+.3f}",
            _range(each.gain_interval, "+"),
            "" if each.chance is None else f"{each.chance:.3f}",
        )
        for each in made
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    print(title)
    for name, *rest in cells:
        numbers = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        print(f"  {name:<{widths[0]}}  {'  '.join(numbers)}".rstrip())
    if json_path is not None:
        write([row for each in made for row in _json_rows(each)], json_path)


def _json_rows(line: Line) -> Iterator[Row]:
    raw = f"{line.name}: raw"
    yield Row(line.name, line.default, _range(line.default_interval), _ratio(line.default, line.raw), raw)
    chance = None if line.chance is None else f"chance {line.chance:.3f}"
    yield Row(raw, line.raw, _range(line.raw_interval), _ratio(line.raw, line.chance), chance)
    yield Row(f"{line.name}: default - raw", line.default - line.raw, _range(line.gain_interval, "+"))


def _rows(
    name: str, clips: EmbeddedClips, encoder: Encoder, kinds: Sequence[str], draws: int
) -> tuple[YardstickRow, ...]:
    found = yardstick.rows(name, clips, adaptation.default(encoder), kinds, draws=draws)
    for note in found.notes:
        print(note, file=sys.stderr)
    return found.rows


def _line(row: YardstickRow) -> Line:
    return Line(row.name, row.map, row.raw, row.map_chance, row.map_interval, row.raw_interval, row.gain_interval)


def _means(whole: YardstickSummary) -> Iterator[Line]:
    yield Line(f"mean of {whole.rows} rows", whole.map, whole.raw)
    yield Line(f"worst of default - raw: {whole.worst.name}", whole.worst.map, whole.worst.raw)


def _beside(name: str, default: NuisanceFigures, raw: NuisanceFigures) -> Iterator[Line]:
    """Leak, triplets and probes: a line for each figure that both sides have."""
    if default.leak is not None and raw.leak is not None and default.leak.ratio and raw.leak.ratio:
        yield Line(f"{name}: own voice among the first 10, x chance", default.leak.ratio, raw.leak.ratio, 1.0)
    for kind, accuracy in default.triplets.items():
        yield Line(f"{name}: triplets, {kind}", accuracy, raw.triplets[kind], 0.5)
    for what, ours, theirs in (("voice", default.voice, raw.voice), ("sentence", default.sentence, raw.sentence)):
        if ours is not None and theirs is not None:
            yield Line(f"{name}: {what} read by a linear probe", ours.accuracy, theirs.accuracy, ours.chance)


def _heard(table: LabelTable, votes: Path) -> NDArray[np.str_] | None:
    """Return the emotion that most raters heard in each row; None where no file of votes is there."""
    if not votes.is_file():
        print(f"rows of what was heard are left out: no votes at {votes}", file=sys.stderr)
        return None
    by_path = majorities(votes)
    return np.array([by_path.get(row.path, "") for row in table.rows])


def _of_voices(table: LabelTable, voices: Sequence[str]) -> LabelTable:
    return replace(table, rows=tuple(row for row in table.rows if row.speaker in voices))


def _whole_voices(table: LabelTable, limit: int) -> LabelTable:
    """All clips of some voices, drawn, `limit` at most; of four voices at least, fewer of which hide a mood each."""
    voices = np.random.default_rng(0).permutation(sorted({row.speaker for row in table.rows} - {""})).tolist()
    clips = np.cumsum([sum(row.speaker == voice for row in table.rows) for voice in voices])
    return _of_voices(table, voices[: max(QUICK_VOICES, int(np.searchsorted(clips, limit, side="right")))])


def _quick(table: LabelTable) -> LabelTable:
    """Return some sentences of a few voices: the rows can be made, and mean little."""
    voices = sorted({row.speaker for row in table.rows} - {""})[:QUICK_VOICES]
    texts = sorted({row.text for row in table.rows})[:QUICK_TEXTS]
    return replace(table, rows=tuple(row for row in table.rows if row.speaker in voices and row.text in texts))


def _named(labels: Path) -> str:
    folder = labels.absolute().parent.name
    return "made" if folder.startswith("made-") else folder


def _range(interval: tuple[float, float] | None, sign: str = "") -> str:
    return "" if interval is None else f"({interval[0]:{sign}.3f} to {interval[1]:{sign}.3f})"


def _ratio(value: float, beside: float | None) -> float | None:
    return value / beside if beside else None
