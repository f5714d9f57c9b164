"""The light encoder as one ONNX graph with int8 weights.

The graph is written node by node, not traced, so that the same weights give the same bytes: Whisper's convolutions and
first blocks after the published architecture (Radford et al. 2022, https://arxiv.org/abs/2212.04356), then a head.

    mel (1, 80, T), pooling (rows, ceil(T / 2))  →  vectors (rows, dim), scores (rows, classes)

A vector is what the head's first layers say, and the voice part beside it.

`pooling` says which frames each row is the mean and the deviation of, before the head: one row of equal shares for an
utterance, one row a frame for a curve over time. So both come from the same weights, and an utterance does not pay for
the curve. Without a head the graph ends in what it would see, pooled (rows, `pooled_width`); heads are trained on that,
int8 as it is, since much of the error is the same for every clip: one trained on float32 lost .010 mAP to 7-bit
weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from light_head import LightHead
from light_voice import BANDS
from numpy.typing import DTypeLike, NDArray
from onnx import TensorProto, helper, numpy_helper

WIDTH = 384
HEADS = 6
STRETCH = 200
"""Frames that hear each other at most, 4 s: attention's cost grows with the square of them, and a clip of 30 s took
twice as long without. Few clips that training hears are longer."""
OPSET = 20  # the first with Gelu; onnxruntime 1.18 knows up to 21
IR_VERSION = 9


class _Graph:
    """Collects nodes and constants; every method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[np.generic]] = {}

    def constant(self, name: str, array: NDArray[np.generic] | np.generic) -> str:
        self.constants[name] = np.asarray(array)
        return name

    def floats(self, *values: float) -> str:
        return self.constant(f"floats{values}", np.array(values, np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(f"integers{values}", np.array(values, np.int64))

    def add(self, op: str, *inputs: str, name: str | None = None, **attributes: object) -> str:
        output = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=f"node_{output}", **attributes))
        return output

    def several(self, op: str, *inputs: str, outputs: int, **attributes: object) -> list[str]:
        names = [f"{op}_{len(self.nodes)}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"node_{names[0]}", **attributes))
        return names

    def in_int8(self, x: str, name: str, weight: NDArray[np.floating]) -> str:
        """`x` times `weight`, both in 8 bits; onnxruntime makes one kernel of these nodes."""
        small, steps = int8(weight)
        seen, step, zero = self.several("DynamicQuantizeLinear", x, outputs=3)
        product = self.add("MatMulInteger", seen, self.constant(name, small), zero)
        scale = self.add("Mul", step, self.constant(f"{name}.steps", steps))
        return self.add("Mul", self.add("Cast", product, to=TensorProto.FLOAT), scale)

    def model(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "e2vsearch-light", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="e2vsearch")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return model


def pooled_width(blocks: Sequence[int]) -> int:
    """Numbers that a head sees, as `build` pools them."""
    return WIDTH * (2 * len(blocks) - 1) + 2 * BANDS


def build(
    stem: Mapping[str, NDArray[np.floating]],
    blocks: Sequence[int],
    head: LightHead | None = None,
    *,
    exact: bool = False,
) -> onnx.ModelProto:
    """Return the model of Whisper's stem, its first transformer blocks and the trained `head`, if any.

    Matrices of the second convolution and of the blocks are int8. The first convolution and the head are small, and
    stay in float32; their weights ship as float16.

    Args:
        stem: Whisper's encoder weights by name.
        blocks: after which transformer blocks frames are pooled, the first being 1. Side by side: of the lowest the
            deviations, of the others means and deviations, and both of the picture's bands.
        head: the trained head, normalisation folded in.
        exact: keep every matrix in float32, twice as slow: what int8 is measured against.
    """
    graph = _Graph()
    after = _add_stem(graph, stem, max(blocks), exact)
    views = [view for block in blocks for view in _mean_and_deviation(graph, after[block - 1])][1:]
    mean, deviation = _mean_and_deviation(graph, _every_second(graph))
    if head is None:
        graph.add("Concat", *views, mean, deviation, axis=1, name="pooled")
        outputs = {"pooled": pooled_width(blocks)}
    else:
        heard, bands = (graph.add("Concat", *each, axis=1) for each in ((*views, deviation), (mean, deviation)))
        _add_head(graph, heard, bands, head)
        outputs = {"vectors": head.dim, "scores": head.classes}
    return graph.model(
        [
            helper.make_tensor_value_info("mel", TensorProto.FLOAT, [1, BANDS, "mel_frames"]),
            helper.make_tensor_value_info("pooling", TensorProto.FLOAT, ["rows", "frames"]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width]) for name, width in outputs.items()],
    )


def int8(weight: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a matrix ``(in, out)`` in whole steps, and the step of each column.

    x86 without VNNI multiplies 8-bit numbers in pairs and adds them in 16 bits, which saturate (`VPMADDUBSW` in Intel's
    manual): a pair of weights may not go beyond 128 in sum, since an input goes up to 255. onnxruntime's own
    `reduce_range` allows 64 to each; here what one leaves, its neighbour may take, which is worth .6 of a bit.
    """
    even, odd = np.abs(weight.astype(np.float64)).reshape(-1, 2, weight.shape[1]).transpose(1, 0, 2)
    steps = np.maximum((even + odd).max(axis=0), 1e-30) / 127  # each rounds up by half a step at most
    return np.rint(weight / steps).astype(np.int8), steps.astype(np.float32)


def _mean_and_deviation(graph: _Graph, frames: str) -> tuple[str, str]:
    """Of frames ``(frames, width)`` over those that each row pools: ``(rows, width)`` both."""
    centre = graph.add("ReduceMean", frames, graph.integers(0), keepdims=1)
    beside = graph.add("Sub", frames, centre)  # some units swing by a hundredth of what they are, lost in squares
    mean = graph.add("MatMul", "pooling", beside)
    square = graph.add("MatMul", "pooling", graph.add("Mul", beside, beside))
    variance = graph.add("Relu", graph.add("Sub", square, graph.add("Mul", mean, mean)))
    return graph.add("Add", mean, centre), graph.add("Sqrt", variance)


def _every_second(graph: _Graph) -> str:
    """Return the picture's frames ``(frames, BANDS)``, as many as the network has."""
    bounds = (graph.integers(value) for value in (0, np.iinfo(np.int64).max, 2, 2))
    sliced = graph.add("Slice", "mel", *bounds)
    return graph.add("Transpose", graph.add("Squeeze", sliced, graph.integers(0)), perm=[1, 0])


def _add_stem(graph: _Graph, stem: Mapping[str, NDArray[np.floating]], blocks: int, exact: bool) -> list[str]:
    """Return the frames after each block, ``(frames, WIDTH)``."""

    def constant(name: str, dtype: DTypeLike = np.float32) -> str:
        return graph.constant(name, stem[name].astype(dtype))

    def half(name: str) -> str:
        return graph.add("Cast", constant(name, np.float16), to=TensorProto.FLOAT)

    def normalise(x: str, name: str) -> str:
        return graph.add("LayerNormalization", x, constant(f"{name}.weight"), constant(f"{name}.bias"), epsilon=1e-5)

    def times(x: str, name: str, weight: NDArray[np.floating]) -> str:
        if exact:
            product = graph.add("MatMul", x, graph.constant(f"{name}.weight", weight.astype(np.float32)))
        else:
            product = graph.in_int8(x, f"{name}.weight", weight)
        return graph.add("Add", product, constant(f"{name}.bias"))

    def linear(x: str, name: str) -> str:
        return times(x, name, np.ascontiguousarray(stem[f"{name}.weight"].T))

    def halve(x: str, name: str) -> str:
        # the convolution of stride 2 as one matrix, so that it too can be int8: rows 2t - 1, 2t and 2t + 1 side by side
        padded = graph.add("Pad", x, graph.integers(1, 0, 1, 0))
        taps = [
            graph.add("Slice", padded, *(graph.integers(value) for value in (tap, end, 0, 2)))
            for tap, end in enumerate((-2, -1, np.iinfo(np.int64).max))
        ]
        weight = stem[f"{name}.weight"].transpose(2, 1, 0).reshape(-1, WIDTH)
        return times(graph.add("Concat", *taps, axis=1), name, weight)

    def by_head(x: str, permutation: list[int]) -> str:
        split = graph.add("Reshape", x, by_stretch)
        return graph.add("Transpose", split, perm=permutation)

    def attention(x: str, name: str) -> str:
        query, key, value = graph.several("Split", linear(x, f"{name}.qkv"), outputs=3, axis=1, num_outputs=3)
        products = graph.add("MatMul", by_head(query, [1, 0, 2]), by_head(key, [1, 2, 0]))
        scaled = graph.add("Mul", products, graph.floats((WIDTH // HEADS) ** -0.5))
        mixed = graph.add("MatMul", graph.add("Softmax", scaled, axis=-1), by_head(value, [1, 0, 2]))
        flat = graph.add("Reshape", graph.add("Transpose", mixed, perm=[1, 0, 2]), graph.integers(-1, WIDTH))
        return linear(flat, f"{name}.out")

    x = graph.add("Conv", "mel", half("conv1.weight"), constant("conv1.bias"), kernel_shape=[3], pads=[1, 1])
    x = graph.add("Transpose", graph.add("Squeeze", graph.add("Gelu", x), graph.integers(0)), perm=[1, 0])
    x = graph.add("Gelu", halve(x, "conv2"))
    x = graph.add("Add", x, _add_positions(graph, x))
    length, there, back = _add_stretches(graph, x)
    x = graph.add("Gather", x, there)
    by_stretch = graph.add("Concat", length, graph.integers(-1, WIDTH // HEADS), axis=0)
    after = []
    for block in (f"blocks.{index}" for index in range(blocks)):
        x = graph.add("Add", x, attention(normalise(x, f"{block}.attn_ln"), f"{block}.attn"))
        wide = graph.add("Gelu", linear(normalise(x, f"{block}.mlp_ln"), f"{block}.mlp.0"))
        x = graph.add("Add", x, linear(wide, f"{block}.mlp.2"))
        after.append(graph.add("Gather", x, back))
    return after


def _add_stretches(graph: _Graph, x: str) -> tuple[str, str, str]:
    """How frames part into stretches of one length, as few as `STRETCH` allows.

    Where they do not come out even, the last begins earlier, and shares less than one frame a stretch with that before.

    Returns:
        The length, ``(1,)``; of which frame each row of the stretches is, the first of all, then the second of all, so
        that a stretch is to attention what a head is; and in which row each frame is.
    """
    one = graph.integers(1)
    frames = graph.add("Slice", graph.add("Shape", x), graph.integers(0), one)

    def parts(size: str) -> str:
        return graph.add("Div", graph.add("Add", frames, graph.add("Sub", size, one)), size)

    def up_to(count: str) -> str:
        return _add_range(graph, graph.add("Squeeze", count))

    def starts(stretch: str) -> str:
        return graph.add("Min", graph.add("Mul", stretch, length), graph.add("Sub", frames, length))

    stretches = parts(graph.integers(STRETCH))
    length = parts(stretches)
    steps = graph.add("Unsqueeze", up_to(length), one)
    there = graph.add("Reshape", graph.add("Add", steps, starts(up_to(stretches))), graph.integers(-1))
    frame = up_to(frames)
    own = graph.add("Div", frame, length)
    step = graph.add("Sub", frame, starts(own))
    return length, there, graph.add("Add", graph.add("Mul", step, stretches), own)


def _add_range(graph: _Graph, count: str) -> str:
    zero, one = (graph.constant(f"integer{i}", np.array(i, np.int64)) for i in (0, 1))
    return graph.add("Range", zero, count, one)


def _rates() -> NDArray[np.float32]:
    """Radians a frame of the sinusoid positions, ``(WIDTH // 2,)``."""
    return np.geomspace(1.0, 1e-4, WIDTH // 2, dtype=np.float32)


def _add_positions(graph: _Graph, x: str) -> str:
    """Sinusoids computed from the number of frames: as a table of 30 s they would be 2.3 MB of the file."""
    frames = graph.add("Gather", graph.add("Shape", x), graph.constant("first", np.array(0, np.int64)))
    steps = graph.add("Cast", _add_range(graph, frames), to=TensorProto.FLOAT)
    angles = graph.add("Mul", graph.add("Unsqueeze", steps, graph.integers(1)), graph.constant("rates", _rates()))
    return graph.add("Concat", graph.add("Sin", angles), graph.add("Cos", angles), axis=1)


def _add_head(graph: _Graph, heard: str, bands: str, head: LightHead) -> None:
    def layer(x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        product = graph.add("MatMul", x, graph.constant(f"head.{name}.weight", weight))
        return graph.add("Add", product, graph.constant(f"head.{name}.bias", bias))

    members, _, hidden = head.wide.shape
    flat = head.wide.transpose(1, 0, 2).reshape(-1, head.width)  # one product takes half as long as one a member
    wide = graph.add("Cast", graph.constant("head.wide.weight", flat.astype(np.float16)), to=TensorProto.FLOAT)
    laid = graph.add("Add", graph.add("MatMul", heard, wide), graph.constant("head.wide.bias", head.offset.reshape(-1)))
    graph.add("Concat", laid, layer(bands, "voice", head.voice.weight, head.voice.offset), axis=1, name="vectors")
    apart = graph.add("Reshape", laid, graph.integers(-1, members, hidden))
    first = graph.add("Transpose", apart, perm=[1, 0, 2])  # (members, rows, hidden)
    biased = graph.add("Add", first, graph.constant("head.bias", head.bias))
    bent = graph.add("Mul", biased, graph.add("Sigmoid", biased))
    parts = graph.add("LpNormalization", layer(bent, "narrow", head.narrow, head.narrow_bias), axis=-1, p=2)
    logits = graph.add(
        "ReduceMean", layer(parts, "classes", head.classify, head.classify_bias), graph.integers(0), keepdims=0
    )
    graph.add("Softmax", logits, axis=-1, name="scores")
