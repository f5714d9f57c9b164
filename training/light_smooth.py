"""Weights made easier to hold in 8 bits, with the network saying the same.

An int8 product gives all inputs of a matrix one step. A few of them are several times as loud as the rest, which then
have few steps left. SmoothQuant (Xiao et al. 2022, https://arxiv.org/abs/2211.10438) divides each input by a number of
its own, in what makes it, and multiplies the weights that read it. That is free where a matrix reads a normalised
layer, whose gain and bias can take it, or attention, which passes its values on as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from light_onnx import WIDTH, build
from numpy.typing import NDArray
from onnx import TensorProto, helper

from e2vsearch.encoders.light import feed, session

Stem = Mapping[str, NDArray[np.floating]]

STRENGTH = 0.6
"""1 makes inputs equally loud, 0 weights equally large. With it deviations over time after block 3 are off by .070 of
what they scatter over clips of CREMA-D and EMO-DB; by .074 with .5 and with .8, and by .084 where nothing is moved."""


def smoothed(
    stem: Stem, blocks: Sequence[int], pictures: Sequence[NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return the same network in other numbers.

    Args:
        stem: its weights by Whisper's names.
        blocks: as in `light_onnx.build`.
        pictures: ``(80, frames)`` each, to say how loud each input is; 15 are about as good as 300.
    """
    loud = _loudness(stem, blocks, pictures)
    out = {name: weight.astype(np.float64) for name, weight in stem.items()}
    for block in (f"blocks.{index}" for index in range(max(blocks))):
        mixed, values = f"{block}.attn.out.weight", f"{block}.attn.qkv"
        by = _louder(loud[mixed], out[mixed])
        out[mixed] *= by
        out[f"{values}.weight"][-WIDTH:] /= by[:, None]  # query, key and value lie below each other
        out[f"{values}.bias"][-WIDTH:] /= by
        for norm, reader in ((f"{block}.attn_ln", f"{values}.weight"), (f"{block}.mlp_ln", f"{block}.mlp.0.weight")):
            by = _louder(loud[reader], out[reader])
            out[reader] *= by
            out[f"{norm}.weight"] /= by
            out[f"{norm}.bias"] /= by
    return {name: weight.astype(np.float32) for name, weight in out.items()}


def _louder(loud: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each input ``(in,)`` of ``(out, in)`` is to be divided by; about 1."""
    by = loud**STRENGTH / np.abs(weight).max(axis=0) ** (1 - STRENGTH)
    return np.asarray(by / np.exp(np.log(by).mean()))


def _loudness(
    stem: Stem, blocks: Sequence[int], pictures: Sequence[NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """By matrix, the loudest that each of its inputs gets: the median of the pictures."""
    model = build(stem, blocks, exact=True)
    reads = {
        node.input[1]: node.input[0]
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1].startswith("blocks.")
    }
    seen = sorted(set(reads.values()))
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in seen)
    network = session(model.SerializeToString(), 1)  # as many threads, as many bits
    heights = [[np.abs(each).max(axis=0) for each in network.run(seen, feed(picture))] for picture in pictures]
    middle = {name: np.median([each[at] for each in heights], axis=0) for at, name in enumerate(seen)}
    return {matrix: middle[name] for matrix, name in reads.items()}
