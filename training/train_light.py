"""Train the light encoder's head, show what it can do on unseen voices and sentences, and write its ONNX and card.

    python training/train_light.py --audio crema_d --whisper whisper_tiny_en_encoder.npz --out e2vsearch/encoders/data

`--audio` holds a labels.csv (path, speaker, emotion, text). Validation first: in each of three folds a third of the
voices *and* a third of the sentences are held out together, so nothing heard in training is heard again. Then one head
is trained on everything, which is what ships. Nothing is chosen here by looking at any other corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from light_data import COPIES, Clips, clips, features
from light_head import HeadOptions, LightHead, train
from light_onnx import build, quantise
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, balanced_accuracy_score

BLOCKS = 2
FOLDS = 3


@dataclass(frozen=True, slots=True)
class Validation:
    """Means over folds, on held-out voices saying held-out sentences; retrieval leaves the query's own voice out."""

    clean_map: float
    clean_chance: float  # share of relevant clips, about what a random ranking gets
    telephone_map: float
    room_map: float
    mixed_map: float  # a gallery of clean clips and of their copies
    novel_map: float  # clips of an emotion that was left out of training too, clean
    recall: float  # unweighted over the six classes, clean
    telephone_recall: float


def validate(pooled: NDArray[np.float32], corpus: Clips, options: HeadOptions) -> Validation:
    """Train and test `FOLDS` heads; voices and sentences of a fold's test are both absent from its training.

    Args:
        pooled: ``(n, len(COPIES), width)``.
        corpus: labels of the same n clips.
        options: as for the shipped head.
    """
    voice, sentence = _folds(corpus.speakers, options.seed), _folds(corpus.texts, options.seed)
    rng = np.random.default_rng(options.seed)
    rows = []
    for fold in range(FOLDS):
        known, unseen = (voice != fold) & (sentence != fold), (voice == fold) & (sentence == fold)
        head = _fit(pooled[known], corpus.emotions[known], corpus.speakers[known], options)
        emotions, speakers = corpus.emotions[unseen], corpus.speakers[unseen]
        vectors, scores = zip(*(head(pooled[unseen, copy]) for copy in range(len(COPIES))), strict=True)
        # drawn, not in turn: the corpus lists its emotions in turn, so the copy would tell them apart
        mixed = np.stack(vectors)[rng.integers(0, len(COPIES), emotions.size), np.arange(emotions.size)]
        novel = (2 * fold + 1) % len(corpus.classes)
        told = known & (corpus.emotions != novel)
        blind = _fit(
            pooled[told], np.unique(corpus.emotions[told], return_inverse=True)[1], corpus.speakers[told], options
        )
        maps = [_retrieve(each, emotions, speakers) for each in (*vectors, mixed)]
        novel_map = _retrieve(blind(pooled[unseen, 0])[0], emotions, speakers, emotions == novel)
        chance = np.mean([(emotions[speakers != s] == e).mean() for e, s in zip(emotions, speakers, strict=True)])
        recalls = [balanced_accuracy_score(emotions, each.argmax(axis=1)) for each in scores[:2]]
        rows.append((maps[0], chance, *maps[1:], novel_map, *recalls))
    return Validation(*(round(float(mean), 4) for mean in np.mean(rows, axis=0)))


def _folds(groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    order = np.random.default_rng(seed).permutation(int(groups.max()) + 1) % FOLDS
    return np.asarray(order[groups])


def _fit(
    pooled: NDArray[np.float32], emotions: NDArray[np.int64], speakers: NDArray[np.int64], options: HeadOptions
) -> LightHead:
    """A head trained on every copy of every clip."""
    flat = pooled.transpose(1, 0, 2).reshape(-1, pooled.shape[2])
    return train(flat, np.tile(emotions, len(COPIES)), np.tile(speakers, len(COPIES)), options)


def _retrieve(
    vectors: NDArray[np.float32],
    emotions: NDArray[np.int64],
    speakers: NDArray[np.int64],
    asked: NDArray[np.bool_] | None = None,
) -> float:
    """Mean average precision, own speaker left out, over all clips as queries or over those `asked` for."""
    cosines = vectors @ vectors.T
    queries = np.arange(len(vectors)) if asked is None else np.flatnonzero(asked)
    others = speakers[queries][:, None] != speakers[None]
    same = emotions[queries][:, None] == emotions[None]
    return float(
        np.mean(
            [
                average_precision_score(relevant[kept], cosines[query, kept])
                for query, kept, relevant in zip(queries, others, same, strict=True)
            ]
        )
    )


def _write(
    out: Path, head: LightHead, whisper: Path, corpus: Clips, options: HeadOptions, held_out: Validation
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    weights = quantise(build(np.load(whisper), BLOCKS, head)).SerializeToString(deterministic=True)
    (out / "light.onnx").write_bytes(weights)
    card = json.loads((Path(__file__).parent / "card.json").read_text(encoding="utf-8"))
    card |= {
        "labels": list(corpus.classes),
        "dim": head.dim,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "training": {
            "clips": len(corpus.paths),
            "speakers": int(corpus.speakers.max()) + 1,
            "copies": list(COPIES),
            "whisper_blocks": BLOCKS,
            "options": asdict(options),
            "versions": {"torch": torch.__version__, "onnx": onnx.__version__, "numpy": np.__version__},
        },
        "validation": asdict(held_out),
    }
    (out / "light.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    """Parse, read, validate, train, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--audio", type=Path, required=True, help="folder with CREMA-D's labels.csv")
    parser.add_argument("--whisper", type=Path, required=True, help=".npz of Whisper-tiny.en's encoder weights")
    parser.add_argument("--out", type=Path, required=True, help="folder for light.onnx and light.json")
    parser.add_argument("--cache", type=Path, help="folder to keep features in between runs")
    parser.add_argument("--workers", type=int, default=2, help="processes that compute features (default: %(default)s)")
    chosen = parser.parse_args()
    for needed in (chosen.audio / "labels.csv", chosen.whisper):
        if not needed.is_file():
            print(f"no file {needed}: see training/README.md for where it comes from", file=sys.stderr)
            return 1
    torch.set_num_threads(1)  # sums are split by thread: the same number gives the same head on every machine alike
    options = HeadOptions()
    corpus = clips(chosen.audio)
    pooled = features(corpus, chosen.whisper, BLOCKS, chosen.cache, chosen.workers)
    held_out = validate(pooled, corpus, options)
    print(f"unseen voices and sentences, {FOLDS} folds of {len(corpus.paths)} clips:")
    for name, value in asdict(held_out).items():
        print(f"  {name:<17} {value:.3f}")
    head = _fit(pooled, corpus.emotions, corpus.speakers, options)
    _write(chosen.out, head, chosen.whisper, corpus, options, held_out)
    print(
        f"wrote {chosen.out / 'light.onnx'} ({(chosen.out / 'light.onnx').stat().st_size / 1e6:.1f} MB) and light.json"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
