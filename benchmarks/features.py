"""What trajectories, references to avoid and named vectors each bring.

    python benchmarks/features.py
    python benchmarks/features.py --encoder out/held-out --only trajectory,avoid --json features.json

Each is measured against the simpler way to the same answer, on calls composed of acted clips, so that it is known what
is to be found. The voices of question and answers differ; intervals are over the voices that ask.

* trajectory: calls of two moods in four orders, drawn so that all orders hold as much of each. Beside the plain query
  by the whole call, and beside eight equal parts of each call compared one by one, without warping.
* avoid: a clip of another mood in the asking voice, or the first wrong hit, as a user would reject it. Beside the plain
  query, and beside the filter ``emotion != …``.
* named: another model's vectors attached, and weighed in; the same emotion, and the same emotion and sentence.

Of CREMA-D, the fifteen voices that training holds out. `light` as it ships was trained on both
corpora: `training/train_light.py` makes one for `--encoder` that was trained on neither EMO-DB nor the fifteen. Without
corpora, clips are made: that shows that the benchmark runs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import _whisper
import numpy as np
from _composed import (
    FIRST,
    Bench,
    Call,
    Corpus,
    Ints,
    average_precision,
    collected,
    compared,
)
from _table import Row, parser, show
from _trajectory import trajectory
from numpy.typing import NDArray
from retrieval import baseline, make, z_scored

import e2vsearch
from e2vsearch.analysis.evaluation import ranking
from e2vsearch.analysis.evaluation.metrics import adjective
from e2vsearch.encoders import registry
from e2vsearch.errors import E2vsearchError
from e2vsearch.vectors.exact import unit

WEIGHTS = (0.25, 0.5, 0.75)
PENALTIES = (0.25, 0.5, 1.0)
ASKED, QUICK_ASKED = 4, 2  # clips that each voice queries with
QUICK_VOICES, QUICK_CLIPS = 3, 6  # and of each mood
CHECKED = 10  # answers of the collection that are compared with the matrix
_DEFAULT = tuple(Path("../shared/audio") / name for name in ("crema_d", "emodb"))
_TRAINED_ON = {"crema_d", "emodb"}  # by light as it ships


# -- clips -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """A collection of single clips, and the truth of each of its segments."""

    collection: e2vsearch.Collection
    ids: Ints  # (n,) segments
    clips: Ints  # (n,) rows of the corpus
    asking: Ints  # rows of the above


def clips_of(bench: Bench) -> Clips:
    """Make a collection of every clip of the corpus."""
    corpus = bench.corpus
    calls = [
        Call(f"clip{at:05}", [corpus.signal(at)], {"voice": voice}) for at, voice in enumerate(corpus.voices.tolist())
    ]
    collection = collected(next(bench.folders), bench.encoder, calls)
    found = sorted(
        (int(segment.id.removeprefix("seg:")), clip_of(recording.name))
        for recording in collection.recordings()
        for segment in collection.segments(recording.id)[:1]
    )
    ids, clips = (np.array(column) for column in zip(*found, strict=True))
    rng = np.random.default_rng(0)
    asking = [
        rng.permutation(np.flatnonzero(corpus.voices[clips] == voice))[: bench.asked] for voice in corpus.everyone
    ]
    return Clips(collection, ids, clips, np.concatenate(asking))


def clip_of(name: str) -> int:
    """Return the row of the corpus that a recording's name stands for."""
    return int(name.removeprefix("clip"))


def avoid(bench: Bench, made: Clips) -> Iterator[Row]:
    """Measure what is wanted and what is not, without and with `avoid`, for both ways of naming an example."""
    corpus, rng = bench.corpus, np.random.default_rng(1)
    moods = sorted(set(corpus.emotions.tolist()))
    for example in ("another mood of the voice", "the first wrong hit"):
        ways = ("plain query", "filter", *(f"avoid {weight}" for weight in PENALTIES))
        wanted_map, wanted_first, bad_first = ({way: list[float]() for way in ways} for _ in range(3))
        voices = []
        for row in made.asking.tolist():
            mood, voice = corpus.emotions[made.clips[row]], str(corpus.voices[made.clips[row]])
            ask = f"seg:{made.ids[row]}"
            where = f'voice != "{voice}"'
            plain = made.collection.query(ask, k=len(made.ids), where=where, exact=True)
            if example == "the first wrong hit":
                wrong = [hit for hit in plain[:FIRST] if corpus.emotions[clip_of(hit.name)] != mood]
                if not wrong:
                    continue
                bad, rejected = corpus.emotions[clip_of(wrong[0].name)], wrong[0].segment
            else:
                there = [each for each in moods if each != mood and corpus.of_mood(voice, each).size]
                bad = str(rng.choice(there))
                rejected = f"seg:{made.ids[np.flatnonzero(made.clips == rng.choice(corpus.of_mood(voice, bad)))[0]]}"
            voices.append(voice)
            total = int(((corpus.emotions == mood) & (corpus.voices != voice)).sum())
            narrow = f'{where} and emotion != "{adjective(bad)}"'
            results = [plain, made.collection.query(ask, k=len(made.ids), where=narrow, exact=True)]
            results += [
                made.collection.query(
                    ask, k=len(made.ids), where=where, avoid=[e2vsearch.Reference(rejected, weight)], exact=True
                )
                for weight in PENALTIES
            ]
            for way, result in zip(ways, results, strict=True):
                found = corpus.emotions[[clip_of(hit.name) for hit in result if hit.segment != rejected]]
                wanted_map[way].append(average_precision(found == mood, total))
                wanted_first[way].append(float((found[:FIRST] == mood).mean()))
                bad_first[way].append(float((found[:FIRST] == bad).mean()))
        head = f"{bench.head}: not like {example}, {len(voices)} queries"
        yield from compared(f"{head}, the wanted mood, mAP", wanted_map, voices)
        yield from compared(f"{head}, the wanted mood, share of the first {FIRST}", wanted_first, voices)
        yield from compared(f"{head}, the unwanted mood, share of the first {FIRST}", bad_first, voices)


def named(bench: Bench, made: Clips) -> Iterator[Row]:
    """Emotion's vectors alone, another model's alone, and both by weight."""
    corpus = bench.corpus
    signals = [corpus.signal(clip) for clip in made.clips.tolist()]
    models = {"log-mel statistics": baseline(signals)}
    models["the encoder's own vectors"] = made.collection.catalog.feed().fetch(made.ids).vectors
    if bench.asked != QUICK_ASKED and _whisper.WEIGHTS.is_file():
        models["Whisper tiny.en"] = z_scored(_whisper.pooled(signals)[:, -1])
    emotion = unit(made.collection.projections.view().source.fetch(made.ids).vectors)
    cosines = emotion @ emotion.T
    voices, moods, both = (
        np.unique(column[made.clips], return_inverse=True)[1].astype(np.int32)
        for column in (corpus.voices, corpus.emotions, np.char.add(corpus.emotions, corpus.texts))
    )
    tasks = {"the same emotion": moods, "the same emotion and sentence": both}
    for model, vectors in models.items():
        other = unit(vectors) @ unit(vectors).T
        fused = {weight: (1 - weight) * cosines + weight * other for weight in (0.0, 1.0, *WEIGHTS)}
        for task, codes in tasks.items():
            figures, asked = {}, np.empty(0, np.int64)
            for weight, scores in fused.items():
                block = ranking.ordered(scores, 0)
                kept = ranking.kept_in(block, np.ones(len(codes), np.bool_), [voices])
                ranked = ranking.scored(block, kept, codes)
                way = {0.0: "alone", 1.0: "the other alone"}.get(weight, f"fused {weight}")
                figures[way], asked = ranked.average_precision.tolist(), ranked.queries
            yield from compared(f"{bench.head}: {model}, {task}, mAP", figures, [str(voices[at]) for at in asked])
        yield Row(
            f"{bench.head}: {model}, first {FIRST} of the collection as computed here",
            agreed(bench, made, model, vectors, fused[0.5]),
        )


def agreed(bench: Bench, made: Clips, model: str, vectors: NDArray[np.float32], scores: NDArray[np.float64]) -> float:
    """Share of the first hits of the collection's own answers that are those of the matrix."""
    name = model.replace(" ", "-").replace("'", "").replace(".", "-").lower()
    made.collection.named_vectors.attach(name, made.ids, vectors)
    shares = []
    for row in made.asking[:CHECKED].tolist():
        voice = bench.corpus.voices[made.clips[row]]
        asked = made.collection.query(
            f"seg:{made.ids[row]}",
            k=FIRST,
            by="segment",
            named_vectors={"emotion": 0.5, name: 0.5},
            where=f'voice != "{voice}"',
        )
        order = np.argsort(-np.where(bench.corpus.voices[made.clips] == voice, -np.inf, scores[row]))[:FIRST]
        shares.append(len({hit.segment for hit in asked} & {f"seg:{made.ids[at]}" for at in order}) / FIRST)
    return float(np.mean(shares))


# -- all of it -------------------------------------------------------------------------------------------------

TABLES = ("trajectory", "avoid", "named")
_OF_CLIPS: dict[str, Callable[[Bench, Clips], Iterator[Row]]] = {"avoid": avoid, "named": named}


def measure(bench: Bench, only: Sequence[str]) -> Iterator[Row]:
    """Yield the tables of one corpus that were asked for."""
    if "trajectory" in only:
        yield from trajectory(bench)
    if not set(_OF_CLIPS).isdisjoint(only):
        made = clips_of(bench)
        with made.collection:
            for name, table in _OF_CLIPS.items():
                if name in only:
                    yield from table(bench, made)


def main() -> int:
    """Measure, print, and write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("--audio", type=Path, nargs="+", help="labels.csv files or their folders")
    arguments.add_argument("--encoder", default="light", help="any name that `e2vsearch.encoders.registry.open` knows")
    arguments.add_argument("--only", default=",".join(TABLES), help="some of %(default)s")
    chosen = arguments.parse_args()
    only = [name for name in chosen.only.split(",") if name in TABLES]
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="features-")))
        folders = (work / str(number) for number in count())
        corpora = chosen.audio or [path for path in _DEFAULT if path.is_dir()][: 1 if chosen.quick else None]
        corpora = corpora or [make(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="made-"))))]
        rows: list[Row] = []
        titles = []
        try:
            encoder = registry.open(chosen.encoder)
            for path in corpora:
                corpus = Corpus.of(path)
                corpus = corpus.few(QUICK_VOICES, QUICK_CLIPS) if chosen.quick else corpus
                trained_on = ", trained on" if encoder.space.encoder == "light" and corpus.name in _TRAINED_ON else ""
                head = f"{corpus.name}{trained_on if chosen.encoder == 'light' else ''}"
                titles.append(f"{head} ({len(corpus.table.rows)} clips, {len(corpus.everyone)} voices)")
                bench = Bench(corpus, encoder, folders, QUICK_ASKED if chosen.quick else ASKED, head)
                rows += measure(bench, only)
        except E2vsearchError as error:
            print(error, file=sys.stderr)
            return 1
    title = f"{encoder.space} on {', '.join(titles)}; 95 % intervals over the voices that ask"
    show(title, rows, chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
