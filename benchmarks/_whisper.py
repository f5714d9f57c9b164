"""Frames of Whisper-tiny.en's encoder after every depth, averaged over time.

The architecture is the published one (https://arxiv.org/abs/2212.04356), one clip at a time, nothing padded to 30 s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from e2vsearch.encoders.mel import log_mel

if TYPE_CHECKING:
    from torch import Tensor

DEPTHS = ("convolutions", "block 1", "block 2", "block 3", "block 4")
"""Where frames are averaged, in the order of `pooled`."""

WEIGHTS = Path("../shared/models/whisper_tiny_en_encoder.npz")

_HEADS = 6


def pooled(signals: Iterable[NDArray[np.float32]], weights: Path = WEIGHTS) -> NDArray[np.float32]:
    """Mean frames of each signal after every depth, ``(n, len(DEPTHS), 384)``.

    Args:
        signals: each ``(samples,)`` at 16 kHz.
        weights: Whisper's by their published names, as ``.npz``.
    """
    import torch

    torch.set_num_threads(1)
    with np.load(weights) as archive:
        named = {name: torch.from_numpy(archive[name].astype(np.float32)) for name in archive}
    with torch.inference_mode():
        return np.stack([_depths(torch.from_numpy(log_mel(signal))[None], named) for signal in signals])


def _depths(picture: Tensor, named: dict[str, Tensor]) -> NDArray[np.float32]:
    import torch
    from torch.nn import functional

    x = functional.gelu(functional.conv1d(picture, named["conv1.weight"], named["conv1.bias"], padding=1))
    x = functional.gelu(functional.conv1d(x, named["conv2.weight"], named["conv2.bias"], stride=2, padding=1))
    x = x[0].T
    half = x.shape[1] // 2
    rates = torch.exp(-math.log(1e4) / (half - 1) * torch.arange(half))
    angles = torch.arange(len(x))[:, None] * rates
    x = x + torch.cat([angles.sin(), angles.cos()], dim=1)
    means = [x.mean(dim=0)]
    for block in range(len(DEPTHS) - 1):
        x = _block(x, named, f"blocks.{block}.")
        means.append(x.mean(dim=0))
    return np.asarray(torch.stack(means).numpy())


def _block(x: Tensor, named: dict[str, Tensor], prefix: str) -> Tensor:
    from torch.nn import functional

    def linear(rows: Tensor, name: str) -> Tensor:
        return functional.linear(rows, named[f"{prefix}{name}.weight"], named[f"{prefix}{name}.bias"])

    parts = linear(_normal(x, named, f"{prefix}attn_ln"), "attn.qkv").view(len(x), 3, _HEADS, -1).permute(1, 2, 0, 3)
    mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
    x = x + linear(mixed.permute(1, 0, 2).reshape(x.shape), "attn.out")
    return x + linear(functional.gelu(linear(_normal(x, named, f"{prefix}mlp_ln"), "mlp.0")), "mlp.2")


def _normal(x: Tensor, named: dict[str, Tensor], name: str) -> Tensor:
    from torch.nn import functional

    return functional.layer_norm(x, x.shape[1:], named[f"{name}.weight"], named[f"{name}.bias"])
