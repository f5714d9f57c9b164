"""The stem in a light.onnx that shipped, read back into weights that can be averaged with others.

int8 matrices are multiplied by their steps. `light_smooth` moved scales between layers and the matrices that read them;
they are moved back, so that each normalised layer has Whisper's own gain again and the network computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from light_onnx import WIDTH
from numpy.typing import NDArray
from onnx import numpy_helper

_MOST = 50.0  # times that an input was scaled; a gain of nearly zero tells nothing of it


def stem_of(path: Path, whisper: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.float32]]:
    """Weights by Whisper's names.

    Args:
        path: a light.onnx whose stem was tuned from these weights.
        whisper: the encoder's, by name.
    """
    found = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    names = [name for name in found if name.startswith(("conv", "blocks")) and not name.endswith(".steps")]
    stem = {name: _matrix(name, found).astype(np.float64) for name in names}
    for name in [each.removesuffix(".attn_ln.weight") for each in names if each.endswith(".attn_ln.weight")]:
        for norm, reader in (("attn_ln", "attn.qkv.weight"), ("mlp_ln", "mlp.0.weight")):
            gain = f"{name}.{norm}.weight"
            by = whisper[gain] / stem[gain]
            by = np.where((by > 1 / _MOST) & (by < _MOST), by, 1.0)
            stem[gain] *= by
            stem[f"{name}.{norm}.bias"] *= by
            stem[f"{name}.{reader}"] /= by
        mixed, values = f"{name}.attn.out.weight", f"{name}.attn.qkv"
        by = np.linalg.norm(stem[mixed], axis=0) / np.linalg.norm(whisper[mixed], axis=0)
        stem[mixed] /= by
        stem[f"{values}.weight"][-WIDTH:] *= by[:, None]
        stem[f"{values}.bias"][-WIDTH:] *= by
    return {name: weight.astype(np.float32) for name, weight in stem.items()}


def _matrix(name: str, found: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    weight = np.asarray(found[name], np.float32)
    if f"{name}.steps" not in found:
        return weight
    wide = weight * np.asarray(found[f"{name}.steps"], np.float32)
    return wide.reshape(3, WIDTH, WIDTH).transpose(2, 1, 0) if name == "conv2.weight" else wide.T
