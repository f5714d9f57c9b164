"""Make the light encoder: tune its stem, train its head, calibrate its classes, write the files.

    python training/train_light.py --audio crema_d --audio emodb --whisper whisper_tiny_en_encoder.npz --out out

Each `--audio` holds a labels.csv (path, speaker, emotion, text), and a voice_votes.csv where raters were asked. Three
encoders come of it: ``out/held-out``, which has heard neither 15 voices of the first corpus nor any other corpus,
``out/reverse``, which has heard the other corpora alone, and ``out``, which ships and has heard everything. The first
two are for `benchmarks/retrieval.py --all`, which is where figures come from.
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
from light_calibrate import calibration
from light_data import COPIES, LABELS, Clips, Pictures, clips, features, pictures
from light_former import stem_of
from light_head import HeadOptions, LightHead, train
from light_onnx import build
from light_smooth import smoothed
from light_tune import TuneOptions, Weights, mean_of, tune
from numpy.typing import NDArray

from e2vsearch.encoders.light import FORMAT, levelled
from e2vsearch.projections.network import NetworkProjection
from e2vsearch.projections.prior import conversation

BLOCKS = (1, 2, 3)
"""After which blocks frames are pooled, all while the stem is tuned; heads do without the first one's mean, which tells
the voice best."""

SHARE = 0.2
"""Of nuance in the projection that ships."""

WHISPER_SHARE = 0.25
"""Of the stem's weights, the rest being tuned."""

SMALL_CORPUS_EPOCHS = 18
"""Of a corpus that is a tenth of the first, where it is all there is."""

HELD_OUT_VOICES = 15

_SMOOTHED_ON = 64  # clips that say how loud the inputs of each matrix are

THREADS = 1  # sums are split by thread: the same number gives the same weights on every machine alike


@dataclass(frozen=True, slots=True)
class _Trainer:
    """What every step needs beside clips."""

    whisper: Mapping[str, NDArray[np.floating]]
    clips: Clips
    pictures: Pictures
    cache: Path | None
    workers: int

    def encoder(
        self, out: Path, head_of: NDArray[np.bool_], stem_of: NDArray[np.bool_], former: Weights | None, epochs: int
    ) -> None:
        """Tune a stem on some clips, train and calibrate a head, write ``light.onnx``, ``light.npz``, ``light.json``.

        Args:
            out: folder to write to.
            head_of: ``(n,)`` which clips the head is trained on …
            stem_of: … and the stem.
            former: another tuned stem, whose weights count as much as those of the one that is tuned here.
            epochs: of tuning.
        """
        stem = self._stem(stem_of, former, replace(TuneOptions(), epochs=epochs))
        network = build(stem, BLOCKS).SerializeToString(deterministic=True)
        pooled = features(self.pictures[head_of], network, self.cache, self.workers)
        some, options, scored = self.clips[head_of], HeadOptions(), len(LABELS)
        prior = conversation(tuple(LABELS.values()))
        scale, offsets = calibration(pooled, some.rows, scored, options)
        head = train(pooled, some.rows, scored, options).calibrated(scale, offsets + np.log(prior))
        projection = head.projection(pooled[:, COPIES.index("clean")], prior, SHARE)
        path = _write(out, head, projection, stem, some)
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB); logits are scaled by {scale:.2f}", flush=True)

    def _stem(self, chosen: NDArray[np.bool_], former: Weights | None, options: TuneOptions) -> Weights:
        """Return the stem tuned on some clips, averaged with others, its inputs evened out for int8."""
        tuned = self._tuned(chosen, options)
        stem = mean_of(self.whisper, tuned if former is None else mean_of(former, tuned, 0.5), 1 - WHISPER_SHARE)
        shown = self.pictures[chosen].clean
        sample = shown[:: max(1, len(shown) // _SMOOTHED_ON)]
        return smoothed(stem, BLOCKS, [levelled(each.astype(np.float32)) for each in sample])

    def _tuned(self, chosen: NDArray[np.bool_], options: TuneOptions) -> Weights:
        """Kept in the cache, since it takes longest."""
        some = self.clips[chosen]
        settings = (FORMAT, options, HeadOptions(), Augmentation(), BLOCKS, [path.name for path in some.paths])
        content = hashlib.sha256(repr(settings).encode())
        kept = self.cache / f"light-stem-{content.hexdigest()[:16]}.npz" if self.cache else None
        if kept is not None and kept.is_file():
            return _weights(kept)
        print(f"tuning the stem on {len(some.paths)} clips", flush=True)
        weights = tune(self.pictures[chosen], some.rows, self.whisper, BLOCKS, options)
        if kept is not None:
            np.savez(kept, allow_pickle=False, **weights)
        return weights


def held_out(corpus: Clips) -> NDArray[np.bool_]:
    """Which clips ``(n,)`` are of the 15 voices of the first corpus that no stem is tuned on; always the same."""
    first = corpus.rows.corpora == 0
    numbers = np.unique(corpus.rows.speakers[first])
    return np.isin(corpus.rows.speakers, np.random.default_rng(3).permutation(numbers)[:HELD_OUT_VOICES])


def _write(out: Path, head: LightHead, projection: NetworkProjection, stem: Weights, corpus: Clips) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    network = build(stem, BLOCKS, head).SerializeToString(deterministic=True)
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
            "share_of_whisper": WHISPER_SHARE,
            "stem": asdict(TuneOptions()),
            "augmentation": asdict(Augmentation()),
            "versions": versions,
        },
    }
    (out / "light.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def main() -> int:
    """Parse, train, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--audio", type=Path, action="append", required=True, help="folder with a labels.csv; repeat it"
    )
    parser.add_argument("--whisper", type=Path, required=True, help=".npz of Whisper-tiny.en's encoder weights")
    parser.add_argument("--former", type=Path, help="a light.onnx that was not tuned on the 15 voices either")
    parser.add_argument("--out", type=Path, required=True, help="folder for light.onnx, light.npz and light.json")
    parser.add_argument("--cache", type=Path, help="folder to keep features and stems in between runs")
    parser.add_argument("--workers", type=int, default=2, help="processes that read clips (default: %(default)s)")
    options = parser.parse_args()
    for needed in (*(folder / "labels.csv" for folder in options.audio), options.whisper):
        if not needed.is_file():
            print(f"no file {needed}: see training/README.md for where it comes from", file=sys.stderr)
            return 1
    torch.set_num_threads(THREADS)
    everything = clips(*options.audio)
    corpora = [everything[everything.rows.corpora == at] for at in range(len(options.audio))]
    shown = pictures(corpora, options.cache, options.workers)
    trainer = _Trainer(_weights(options.whisper), everything, shown, options.cache, options.workers)
    first, unseen = everything.rows.corpora == 0, held_out(everything)
    former = None if options.former is None else stem_of(options.former, trainer.whisper)
    epochs, known = TuneOptions().epochs, first & ~unseen
    if not first.all():
        trainer.encoder(options.out / "held-out", known, known, former, epochs)
        trainer.encoder(options.out / "reverse", ~first, ~first, None, SMALL_CORPUS_EPOCHS)
    trainer.encoder(options.out, np.ones_like(first), ~unseen, former, epochs)
    return 0


def _weights(path: Path) -> Weights:
    with np.load(path) as archive:
        return dict(archive)


if __name__ == "__main__":
    sys.exit(main())
