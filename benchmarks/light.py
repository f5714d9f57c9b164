"""How fast the encoder that ships is on one core, as times real time, from samples to vectors and scores.

    python benchmarks/light.py

The whole process is bound to one core where the system allows that. Clips are encoded one by one, as ingestion does:
made voices of one length each, in turns, and segments of real calls, where there are any beside the checkout.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
from _table import Row, parser, show
from encoder import Signals, made, race, segments

from e2vsearch import audio
from e2vsearch.encoders import light, mel, registry
from e2vsearch.encoders.base import EncoderOptions

LENGTHS_S = (1.5, 3.0, 5.0, 10.0, 30.0)
OF_EACH_S = 60.0  # of sound in a round


def cut(length_s: float) -> Signals:
    """Return a minute of made voices in pieces of one length."""
    joined = np.concatenate(made(64))
    size = int(length_s * audio.SAMPLING_RATE_HZ)
    return [joined[at * size : (at + 1) * size] for at in range(int(OF_EACH_S / length_s))]


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--encoder", default="light", help="a folder of light.onnx, light.npz and light.json")
    options = arguments.parse_args()
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os.execv(sys.executable, [sys.executable, *sys.argv])  # threads that numpy has started already keep their cores
    encoder = registry.open(options.encoder, EncoderOptions(threads=1))
    sets = {f"clips of {length:g} s": cut(length) for length in LENGTHS_S}
    real = segments(50 if options.quick else 400)
    if real:
        sets["segments of real calls"] = real
    else:
        print("no real calls beside this checkout: made voices only")

    def encoded(signals: Signals) -> None:
        for signal in signals:
            encoder.encode([signal])

    def seen(signals: Signals) -> None:
        for signal in signals:
            light.picture(signal)

    base = "clips of 5 s"
    sides: dict[str, Callable[[], object]] = {name: partial(encoded, signals) for name, signals in sets.items()}
    sides["… of which the picture that the network sees"] = partial(seen, sets[base])
    spent = race(sides, 3 if options.quick else 11)
    sound_s = {name: sum(map(len, signals)) / audio.SAMPLING_RATE_HZ for name, signals in sets.items()}
    ratios = {name: sound_s.get(name, sound_s[base]) / statistics.median(each) for name, each in spent.items()}
    rows = [Row(name, value, "x real time", value / ratios[base], base) for name, value in ratios.items()]
    lengths = [len(signal) / audio.SAMPLING_RATE_HZ for signal in real]
    if lengths:
        rows.append(Row("  their median length", statistics.median(lengths), "s"))
    show(f"{options.encoder} on one core, {mel.RATE_HZ:g} frames a second, medians", rows, options.json)


if __name__ == "__main__":
    main()
