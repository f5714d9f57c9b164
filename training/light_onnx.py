"""The light encoder as one ONNX graph with int8 weights. Knows the network's shape, nothing of training or audio.

The graph is written node by node, not traced, so that the same weights give the same bytes: Whisper's convolutions and
first blocks after the published architecture (Radford et al. 2022, https://arxiv.org/abs/2212.04356), then a head.

    mel (1, 80, T), pooling (rows, ceil(T / 2))  →  vectors (rows, dim), scores (rows, classes)

A vector is what the head's first layers say, and the voice part beside it.

`pooling` says which frames each row is the mean and the deviation of, before the head: one row of equal shares for an
utterance, one row a frame for a curve over time. So both come from the same weights, and an utterance does not pay for
the curve. Without a head the graph ends in what it would see, pooled (rows, `pooled_width`); heads are trained on that,
int8 as it is, since the error of 7-bit weights is mostly the same for every clip: one trained on float32 lost .010 mAP
to it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from light_head import LightHead
from light_voice import BANDS
from numpy.typing import DTypeLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

WIDTH = 384
HEADS = 6
IN_FLOAT = "blocks.0.attn."
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

    def model(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "e2vsearch-light", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="e2vsearch")
        model.ir_version = IR_VERSION
        # says to onnxruntime that there is nothing left to fold before quantisation; else it warns
        helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
        onnx.checker.check_model(model)
        return model


def pooled_width(blocks: Sequence[int]) -> int:
    """Numbers that a head sees, as `build` pools them."""
    return WIDTH * (2 * len(blocks) - 1) + 2 * BANDS


def build(
    stem: Mapping[str, NDArray[np.floating]], blocks: Sequence[int], head: LightHead | None = None
) -> onnx.ModelProto:
    """The float32 model of Whisper's stem, its first transformer blocks and the trained `head`, if any.

    Args:
        stem: Whisper's encoder weights by name.
        blocks: after which transformer blocks frames are pooled, the first being 1. Side by side: of the lowest the
            deviations, of the others means and deviations, and both of the picture's bands.
        head: the trained head, normalisation folded in.
    """
    graph = _Graph()
    after = _add_stem(graph, stem, max(blocks))
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


def quantise(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with most matrices of its stem and transformer blocks in int8, one scale a column.

    Seven bits of the eight are used: without VNNI, x86 adds pairs of 8-bit products in 16 bits and would saturate.
    The first block's attention suffers most from that and is computed in float32 (2 ms of 15 for 5 s of sound), as are
    the first convolution and the head, which are small; their weights ship as float16.
    """
    matrices = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1].startswith(("conv2.", "blocks."))
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_dynamic(
            source, target, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8, nodes_to_quantize=matrices
        )
        return onnx.load(target)


def _mean_and_deviation(graph: _Graph, frames: str) -> tuple[str, str]:
    """Of frames ``(frames, width)`` over those that each row pools: ``(rows, width)`` both."""
    centre = graph.add("ReduceMean", frames, graph.integers(0), keepdims=1)
    beside = graph.add("Sub", frames, centre)  # some units swing by a hundredth of what they are, lost in squares
    mean = graph.add("MatMul", "pooling", beside)
    square = graph.add("MatMul", "pooling", graph.add("Mul", beside, beside))
    variance = graph.add("Relu", graph.add("Sub", square, graph.add("Mul", mean, mean)))
    return graph.add("Add", mean, centre), graph.add("Sqrt", variance)


def _every_second(graph: _Graph) -> str:
    """The picture's frames ``(frames, BANDS)``, as many as the network has."""
    bounds = (graph.integers(value) for value in (0, np.iinfo(np.int64).max, 2, 2))
    sliced = graph.add("Slice", "mel", *bounds)
    return graph.add("Transpose", graph.add("Squeeze", sliced, graph.integers(0)), perm=[1, 0])


def _add_stem(graph: _Graph, stem: Mapping[str, NDArray[np.floating]], blocks: int) -> list[str]:
    """The frames after each block, ``(frames, WIDTH)``."""

    def constant(name: str, array: NDArray[np.floating] | None = None, dtype: DTypeLike = np.float32) -> str:
        return graph.constant(name, (stem[name] if array is None else array).astype(dtype))

    def half(name: str, array: NDArray[np.floating] | None = None) -> str:
        return graph.add("Cast", constant(name, array, np.float16), to=TensorProto.FLOAT)

    def normalise(x: str, name: str) -> str:
        return graph.add("LayerNormalization", x, constant(f"{name}.weight"), constant(f"{name}.bias"), epsilon=1e-5)

    def linear(x: str, name: str) -> str:
        as_it_ships = half if name.startswith(IN_FLOAT) else constant  # the others will be int8
        weight = as_it_ships(f"{name}.weight", np.ascontiguousarray(stem[f"{name}.weight"].T))
        return graph.add("Add", graph.add("MatMul", x, weight), constant(f"{name}.bias"))

    def halve(x: str, name: str) -> str:
        # the convolution of stride 2 as one matrix, so that it too can be int8: rows 2t - 1, 2t and 2t + 1 side by side
        padded = graph.add("Pad", x, graph.integers(1, 0, 1, 0))
        taps = [
            graph.add("Slice", padded, *(graph.integers(value) for value in (tap, end, 0, 2)))
            for tap, end in enumerate((-2, -1, np.iinfo(np.int64).max))
        ]
        weight = stem[f"{name}.weight"].transpose(2, 1, 0).reshape(-1, WIDTH)
        product = graph.add("MatMul", graph.add("Concat", *taps, axis=1), constant(f"{name}.weight", weight))
        return graph.add("Add", product, constant(f"{name}.bias"))

    def by_head(x: str, permutation: list[int]) -> str:
        split = graph.add("Reshape", x, graph.integers(-1, HEADS, WIDTH // HEADS))
        return graph.add("Transpose", split, perm=permutation)

    def attention(x: str, name: str) -> str:
        query, key, value = (f"{name}.{part}" for part in ("query", "key", "value"))
        split = helper.make_node(
            "Split", [linear(x, f"{name}.qkv")], [query, key, value], name=f"{name}.split", axis=1, num_outputs=3
        )
        graph.nodes.append(split)
        products = graph.add("MatMul", by_head(query, [1, 0, 2]), by_head(key, [1, 2, 0]))
        scaled = graph.add("Mul", products, graph.floats((WIDTH // HEADS) ** -0.5))
        mixed = graph.add("MatMul", graph.add("Softmax", scaled, axis=-1), by_head(value, [1, 0, 2]))
        flat = graph.add("Reshape", graph.add("Transpose", mixed, perm=[1, 0, 2]), graph.integers(-1, WIDTH))
        return linear(flat, f"{name}.out")

    x = graph.add("Conv", "mel", half("conv1.weight"), constant("conv1.bias"), kernel_shape=[3], pads=[1, 1])
    x = graph.add("Transpose", graph.add("Squeeze", graph.add("Gelu", x), graph.integers(0)), perm=[1, 0])
    x = graph.add("Gelu", halve(x, "conv2"))
    x = graph.add("Add", x, _add_positions(graph, x))
    after = []
    for block in (f"blocks.{index}" for index in range(blocks)):
        x = graph.add("Add", x, attention(normalise(x, f"{block}.attn_ln"), f"{block}.attn"))
        wide = graph.add("Gelu", linear(normalise(x, f"{block}.mlp_ln"), f"{block}.mlp.0"))
        x = graph.add("Add", x, linear(wide, f"{block}.mlp.2"))
        after.append(x)
    return after


def _rates() -> NDArray[np.float32]:
    """Radians a frame of the sinusoid positions, ``(WIDTH // 2,)``."""
    return np.geomspace(1.0, 1e-4, WIDTH // 2, dtype=np.float32)


def _add_positions(graph: _Graph, x: str) -> str:
    """Sinusoids computed from the number of frames: as a table of 30 s they would be 2.3 MB of the file."""
    frames = graph.add("Gather", graph.add("Shape", x), graph.constant("first", np.array(0, np.int64)))
    zero, one = (graph.constant(f"integer{i}", np.array(i, np.int64)) for i in (0, 1))
    steps = graph.add("Cast", graph.add("Range", zero, frames, one), to=TensorProto.FLOAT)
    angles = graph.add("Mul", graph.add("Unsqueeze", steps, graph.integers(1)), graph.constant("rates", _rates()))
    return graph.add("Concat", graph.add("Sin", angles), graph.add("Cos", angles), axis=1)


def _add_head(graph: _Graph, heard: str, bands: str, head: LightHead) -> None:
    def layer(x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        product = graph.add("MatMul", x, graph.constant(f"head.{name}.weight", weight))
        return graph.add("Add", product, graph.constant(f"head.{name}.bias", bias))

    wide = graph.add("Cast", graph.constant("head.wide.weight", head.wide.astype(np.float16)), to=TensorProto.FLOAT)
    offset = graph.constant("head.wide.bias", head.offset)
    first = graph.add("Add", graph.add("MatMul", heard, wide), offset)  # (members, rows, hidden)
    side_by_side = graph.add("Transpose", first, perm=[1, 0, 2])
    laid = graph.add("Reshape", side_by_side, graph.integers(-1, head.heard))
    graph.add("Concat", laid, layer(bands, "voice", head.voice.weight, head.voice.offset), axis=1, name="vectors")
    biased = graph.add("Add", first, graph.constant("head.bias", head.bias))
    bent = graph.add("Mul", biased, graph.add("Sigmoid", biased))
    parts = graph.add("LpNormalization", layer(bent, "narrow", head.narrow, head.narrow_bias), axis=-1, p=2)
    logits = graph.add(
        "ReduceMean", layer(parts, "classes", head.classify, head.classify_bias), graph.integers(0), keepdims=0
    )
    graph.add("Softmax", logits, axis=-1, name="scores")
