"""Whether names of emotions can be believed: calibration against raters, abstention, and what real calls are named.

    python benchmarks/names.py --encoder out/held-out

CREMA-D's voices that training holds out, and what most of its raters heard in them (ties left out); real calls, where
there are any beside the checkout, of which nobody has said what they hold. Each set is scored as a collection of it
would be. Without CREMA-D there is nothing to compare names with, and the script says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _table import Row, parser, show
from _yardstick import VOTED, held_out, majorities
from encoder import segments
from numpy.typing import NDArray

from e2vsearch import audio, emotions
from e2vsearch.analysis.evaluation import labels_table
from e2vsearch.analysis.evaluation.metrics import adjective
from e2vsearch.encoders import registry
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import E2vsearchError
from e2vsearch.projections import network

CORPUS = Path("../shared/audio") / VOTED
BINS = 10
SURE = 0.8
CALLS, QUICK_CALLS = 400, 50  # segments
QUICK_VOICES = 4

Float64s = NDArray[np.float64]


def calibration_error(probabilities: Float64s, right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error of the likeliest class (Guo et al. 2017), in ten bins of its probability.

    Args:
        probabilities: ``(n,)`` of the likeliest class.
        right: ``(n,)`` whether it is what was heard.
    """
    of = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = [abs(right[of == each].mean() - probabilities[of == each].mean()) * (of == each).mean() for each in set(of)]
    return float(sum(gaps))


def scored(encoder: Encoder, signals: list[NDArray[np.float32]]) -> Float64s:
    """Class probabilities ``(n, classes)`` as a collection of these signals has them."""
    made = [encoder.encode([signal]) for signal in signals]
    packed = encoder.projection()
    if packed is not None:
        vectors = np.concatenate([each.vectors for each in made])
        return network.unpack(packed).centred(vectors).scores(vectors).astype(np.float64)
    return np.concatenate([each.scores for each in made if each.scores is not None]).astype(np.float64)


def names(encoder: Encoder, probabilities: Float64s, signals: list[NDArray[np.float32]]) -> NDArray[np.str_]:
    """Return what is shown of each signal ``(n,)``."""
    durations = [signal.size / audio.SAMPLING_RATE_HZ for signal in signals]
    found = emotions.named(probabilities, encoder.space.labels, durations, [None] * len(signals))
    return np.array([each.name for each in found])


def heard_rows(encoder: Encoder, signals: list[NDArray[np.float32]], heard: NDArray[np.str_]) -> Iterator[Row]:
    """Figures against what most raters heard."""
    probabilities = scored(encoder, signals)
    likeliest = np.array(encoder.space.labels)[probabilities.argmax(axis=1)]
    shown = names(encoder, probabilities, signals)
    named = ~np.isin(shown, emotions.NAMELESS)
    yield Row("calibration error", calibration_error(probabilities.max(axis=1), likeliest == heard))
    yield Row("likeliest class is what was heard", float((likeliest == heard).mean()))
    yield Row("unsure or too short", float((~named).mean()))
    yield Row("… of the rest, named as heard", float((shown == heard)[named].mean()))
    recalls = [(shown[own] == each).mean() for each in np.unique(heard) if (own := named & (heard == each)).any()]
    yield Row("… mean over what was heard", float(np.mean(recalls)))


def call_rows(encoder: Encoder, signals: list[NDArray[np.float32]]) -> Iterator[Row]:
    """How real calls are named."""
    probabilities = scored(encoder, signals)
    shown = names(encoder, probabilities, signals)
    for each in (*encoder.space.labels, *emotions.NAMELESS):
        yield Row(f"calls: {each}", float((shown == each).mean()))
    others = [at for at, label in enumerate(encoder.space.labels) if label != emotions.NEUTRAL]
    yield Row(f"calls: a class but neutral above {SURE}", float((probabilities[:, others] > SURE).any(axis=1).mean()))


def main() -> int:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--encoder", default="light", help="one that has not heard the voices held out")
    arguments.add_argument("--audio", type=Path, default=CORPUS, help="CREMA-D with its voice_votes.csv (%(default)s)")
    options = arguments.parse_args()
    try:
        table = labels_table.read(options.audio / "labels.csv")
        votes = majorities(options.audio / "voice_votes.csv")
        voices = held_out(table)[: QUICK_VOICES if options.quick else None]
        some = [row for row in table.rows if row.speaker in voices and votes.get(row.path)]
        signals = [audio.read(table.file(row))[0] for row in some]
        heard = np.array([adjective(votes[row.path]) for row in some])
        real = segments(QUICK_CALLS if options.quick else CALLS)
        encoder = registry.open(options.encoder)
        rows = [*heard_rows(encoder, signals, heard), *(call_rows(encoder, real) if real else ())]
    except E2vsearchError as error:
        print(error, file=sys.stderr)
        return 1
    title = f"{options.encoder}: {len(signals)} clips of {len(voices)} unheard voices, {len(real)} of real calls"
    show(title, rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
