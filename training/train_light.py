"""Make the light encoder: tune its stem, train its head, measure both on what they have not heard, write the files.

    python training/train_light.py --audio crema_d --audio emodb --whisper whisper_tiny_en_encoder.npz --out out

Each `--audio` holds a labels.csv (path, speaker, emotion, text). The stem is tuned on the first corpus less 15 of its
voices. A head that has heard no more is measured on these and on the second corpus, and goes to ``out/held-out``:
`e2vsearch evaluate --encoder out/held-out` and every benchmark take it. The head that ships is trained on everything,
and so has nothing left to be measured on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from light_augment import Augmentation
from light_data import COPIES, LABELS, Clips, clips, features, pictures
from light_figures import HELD_OUT_VOICES, chosen, held_out, measured
from light_head import HeadOptions, LightHead, train
from light_onnx import build
from light_smooth import smoothed
from light_tune import TuneOptions, Weights, mean_of, tune
from numpy.typing import NDArray

from e2vsearch.encoders.light import FORMAT, levelled
from e2vsearch.projections.shipped import Shipped

BLOCKS = (1, 2, 3)
"""After which blocks frames are pooled, all while the stem is tuned; heads do without the first one's mean, which knows
the voice best."""

TUNINGS = ((False, 17), (True, 17), (True, 18))
"""Of the stem: whether some clips are heard through a telephone, and the seed."""

SHARE = 0.2
"""Of nuance in the projection that ships: 0 has .005 mAP and .014 precision@10 less on EMO-DB; .4 has .005 and .008
more, and .002 less of the third triplets."""

_SMOOTHED_ON = 64  # clips that say how loud the inputs of each matrix are

THREADS = 2  # sums are split by thread: the same number gives the same weights on every machine alike


@dataclass(frozen=True, slots=True)
class _Workplace:
    """What every step needs beside clips."""

    whisper: Mapping[str, NDArray[np.floating]]
    cache: Path | None
    workers: int
    head: HeadOptions

    def tuned(self, corpus: Clips, chosen: NDArray[np.bool_]) -> Weights:
        """The stem tuned on some clips of a corpus: the mean of several tunings, its inputs evened out for int8."""
        stem = mean_of(*(self._tuning(corpus, chosen, *each) for each in TUNINGS))
        every, some = pictures(corpus.paths, self.cache, self.workers), np.flatnonzero(chosen)
        sample = some[:: max(1, some.size // _SMOOTHED_ON)]
        return smoothed(stem, BLOCKS, [levelled(every[index].astype(np.float32)) for index in sample])

    def _tuning(self, corpus: Clips, chosen: NDArray[np.bool_], line: bool, seed: int) -> Weights:
        """Kept in the cache, since it takes longest."""
        some, options = np.flatnonzero(chosen), replace(TuneOptions(), seed=seed)
        settings = (FORMAT, options, Augmentation(), BLOCKS, [corpus.paths[index].name for index in some], line)
        content = hashlib.sha256(repr(settings).encode())
        kept = self.cache / f"light-stem-{content.hexdigest()[:16]}.npz" if self.cache else None
        if kept is not None and kept.is_file():
            return _weights(kept)
        print(f"tuning the stem on {len(some)} clips{', some through a telephone' if line else ''}", flush=True)
        every = pictures(corpus.paths, self.cache, self.workers)
        lines = pictures(corpus.paths, self.cache, self.workers, line=True) if line else None
        clean = [every[index] for index in some]
        far = None if lines is None else [lines[index] for index in some]
        weights = tune(clean, corpus.rows[some], self.whisper, BLOCKS, options, far)
        if kept is not None:
            np.savez(kept, allow_pickle=False, **weights)
        return weights

    def heard(self, corpus: Clips, weights: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float32]:
        """What a head sees of a corpus through a stem as it ships, in int8."""
        network = build(weights, BLOCKS).SerializeToString(deterministic=True)
        return features(corpus.paths, network, self.cache, self.workers)


def measure(place: _Workplace, stem: Mapping[str, NDArray[np.floating]], known: Clips, other: Clips, out: Path) -> None:
    """Figures of a head that has heard what the stem has, on voices held out and on another corpus.

    It goes into `out`, with its figures in the card, so that the project's benchmarks can be run on it.
    """
    unseen = held_out(known)
    seen, heard = chosen(known, ~unseen), place.heard(known, stem)
    head = train(heard[~unseen], seen.rows, len(LABELS), place.head)
    projection = head.projection(heard[~unseen, COPIES.index("clean")], SHARE)
    found: dict[str, object] = {}
    tests = {
        f"{HELD_OUT_VOICES} voices held out": (chosen(known, unseen), heard[unseen]),
        "another corpus": (other, place.heard(other, stem)),
    }
    for name, test in tests.items():
        found[name] = scores = asdict(measured(head, projection, *test))
        print(f"{name}:", *(f"{key} {value:.3f}" for key, value in scores.items()), flush=True)
    write(out, head, projection, stem, seen, found)


def write(
    out: Path,
    head: LightHead,
    projection: Shipped,
    weights: Mapping[str, NDArray[np.floating]],
    corpus: Clips,
    figures: Mapping[str, object],
) -> Path:
    """``light.onnx``, the projection ``light.npz`` that ships with it, and their card ``light.json``."""
    out.mkdir(parents=True, exist_ok=True)
    network = build(weights, BLOCKS, head).SerializeToString(deterministic=True)
    path = out / "light.onnx"
    path.write_bytes(network)
    packed = projection.pack()
    (out / "light.npz").write_bytes(packed)
    card = json.loads((Path(__file__).parent / "card.json").read_text(encoding="utf-8"))
    versions = {each.__name__: each.__version__ for each in (torch, onnx, onnxruntime, np)}
    card |= {
        "labels": list(LABELS.values()),
        "dim": head.dim,
        "sha256": hashlib.sha256(network).hexdigest(),
        "projection_sha256": hashlib.sha256(packed).hexdigest(),
        "training": {
            "clips": len(corpus.paths),
            "speakers": int(np.unique(corpus.rows.speakers).size),
            "copies": list(COPIES),
            "pooled_after_blocks": list(BLOCKS),
            "head": asdict(HeadOptions()),
            "share_of_nuance": SHARE,
            "stem": asdict(TuneOptions()),
            "tunings": [{"telephone": line, "seed": seed} for line, seed in TUNINGS],
            "augmentation": asdict(Augmentation()),
            "versions": versions,
        },
        "measured": figures,
    }
    (out / "light.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def main() -> int:
    """Parse, measure, train, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--audio", type=Path, action="append", required=True, help="folder with a labels.csv; repeat it"
    )
    parser.add_argument("--whisper", type=Path, required=True, help=".npz of Whisper-tiny.en's encoder weights")
    parser.add_argument("--out", type=Path, required=True, help="folder for light.onnx and light.json")
    parser.add_argument("--cache", type=Path, help="folder to keep features and stems in between runs")
    parser.add_argument("--workers", type=int, default=2, help="processes that read clips (default: %(default)s)")
    options = parser.parse_args()
    for needed in (*(folder / "labels.csv" for folder in options.audio), options.whisper):
        if not needed.is_file():
            print(f"no file {needed}: see training/README.md for where it comes from", file=sys.stderr)
            return 1
    torch.set_num_threads(THREADS)
    place = _Workplace(_weights(options.whisper), options.cache, options.workers, HeadOptions())
    corpora = [clips(folder) for folder in options.audio]
    stem = place.tuned(corpora[0], ~held_out(corpora[0]))
    for other in corpora[1:]:
        measure(place, stem, corpora[0], other, options.out / "held-out")
    everything = clips(*options.audio)
    heard = np.concatenate([place.heard(each, stem) for each in corpora])
    head = train(heard, everything.rows, len(LABELS), place.head)
    projection = head.projection(heard[:, COPIES.index("clean")], SHARE)
    figures = {"note": "this has heard all there was to measure it on: see training/README.md"}
    path = write(options.out, head, projection, stem, everything, figures)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB), light.npz and light.json")
    return 0


def _weights(path: Path) -> Weights:
    with np.load(path) as archive:
        return dict(archive)


if __name__ == "__main__":
    sys.exit(main())
