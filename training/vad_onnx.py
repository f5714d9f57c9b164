"""The graph of Silero's voice detector over many windows at once, without its weights.

    python training/vad_onnx.py        # writes e2vsearch/speech/data/vad.onnx

Silero's own graph takes one window of 32 ms a call, which costs 7 times what its arithmetic does. Only the LSTM has to
go window by window: all before it is written here as products of matrices over all windows, and the LSTM as one
operator over the sequence. The weights stay in the package that Silero's network comes in, and are given to the graph
when it is opened, see `e2vsearch.speech.silero`.

    windows (n, 576), hidden (1, 1, 128), cell (1, 1, 128)  →  probabilities (n,), hidden_after, cell_after
"""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from onnx import TensorProto, helper

OPSET, IR_VERSION = 16, 8  # Silero's own
WEIGHTS = {
    "spectrum": (256, 258),  # of 256 samples: 129 real parts, then 129 imaginary ones
    "convolution_0": (3 * 129, 128),
    "bias_0": (128,),
    "convolution_1": (3 * 128, 64),
    "bias_1": (64,),
    "convolution_2": (2 * 64, 64),
    "bias_2": (64,),
    "convolution_3": (64, 128),
    "bias_3": (128,),
    "input": (1, 4 * 128, 128),
    "recurrent": (1, 4 * 128, 128),
    "bias": (1, 2 * 4 * 128),
    "output": (128, 1),
    "output_bias": (1,),
}


class _Graph:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def integers(self, *values: int) -> str:
        name = f"integers{values}"
        self.constants[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def add(self, op: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: object) -> str:
        names = outputs or (f"{op}_{len(self.nodes)}",)
        self.nodes.append(helper.make_node(op, list(inputs), list(names), **attributes))
        return names[0]

    def cut(self, source: str, start: int, count: int, step: int) -> str:
        """Every `step`-th position of the second axis, `count` of them from `start` on."""
        end = start + (count - 1) * step + 1
        bounds = (self.integers(start), self.integers(end), self.integers(1), self.integers(step))
        return self.add("Slice", source, *bounds)

    def convolution(self, source: str, number: int, before: int, after: int, count: int, step: int) -> str:
        """Three neighbours at each position, padded with zeros, times a matrix, rectified."""
        padded = self.add("Pad", source, self.integers(0, before, 0, 0, after, 0))
        near = [self.cut(padded, at, count, step) for at in range(3)]
        product = self.add("MatMul", self.add("Concat", *near, axis=2), f"convolution_{number}")
        return self.add("Relu", self.add("Add", product, f"bias_{number}"))


def graph() -> onnx.ModelProto:
    """Write the graph node by node, so that its bytes are the same everywhere."""
    made = _Graph()
    padded = made.add("Pad", "windows", made.integers(0, 0, 0, 64), mode="reflect")
    blocks = made.add("Reshape", padded, made.integers(-1, 5, 128))
    frames = made.add("Concat", made.cut(blocks, 0, 4, 1), made.cut(blocks, 1, 4, 1), axis=2)  # 256 samples, half new
    spectrum = made.add("MatMul", frames, "spectrum")
    made.add("Split", spectrum, outputs=("real", "imaginary"), axis=2)
    power = made.add("Add", made.add("Mul", "real", "real"), made.add("Mul", "imaginary", "imaginary"))
    rows = made.convolution(made.add("Sqrt", power), 0, 1, 1, 4, 1)
    rows = made.convolution(rows, 1, 1, 0, 2, 2)
    # of the third convolution one position is left, whose first neighbour is padding; of the fourth both others are
    rows = made.add("Reshape", rows, made.integers(-1, 128))
    for number in (2, 3):
        rows = made.add("Relu", made.add("Gemm", rows, f"convolution_{number}", f"bias_{number}"))
    sequence = made.add("Unsqueeze", rows, made.integers(1))
    states = ("hidden_after", "cell_after")
    inputs = (sequence, "input", "recurrent", "bias", "", "hidden", "cell")
    lines = made.add("LSTM", *inputs, outputs=("lines", *states), hidden_size=128)
    rows = made.add("Relu", made.add("Reshape", lines, made.integers(-1, 128)))
    logits = made.add("Gemm", rows, "output", "output_bias")
    made.add("Reshape", made.add("Sigmoid", logits), made.integers(-1), outputs=("probabilities",))

    def of_floats(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    return helper.make_model(
        helper.make_graph(
            made.nodes,
            "vad",
            [of_floats("windows", ["n", 576]), *(of_floats(each, [1, 1, 128]) for each in ("hidden", "cell"))],
            [of_floats("probabilities", ["n"]), *(of_floats(each, [1, 1, 128]) for each in states)],
            initializer=[*(_elsewhere(*each) for each in WEIGHTS.items()), *made.constants.values()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def _elsewhere(name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
    """Declare weights that are given when the graph is opened."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "given"), ("offset", "0"), ("length", str(4 * math.prod(shape)))):
        tensor.external_data.add(key=key, value=value)
    return tensor


if __name__ == "__main__":
    file = Path(__file__).parents[1] / "e2vsearch" / "speech" / "data" / "vad.onnx"
    file.write_bytes(graph().SerializeToString(deterministic=True))
