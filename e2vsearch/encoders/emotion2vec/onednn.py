"""The same arithmetic as FunASR's modules, ordered for a processor's caches.

Each function here reads the weights of one of FunASR's modules and is put in the place of its `forward`, on the
instance. Results differ by the order of sums alone, some 1e-6 of a vector of norm 27.

What pays on a CPU, large shape, CPU seconds for one clip of 10 s on one thread (AMD Zen 4, torch 2.13): 3.22 as FunASR
runs it, 2.91 with `stem`, 2.68 with fused attention as well, 2.41 with packed weights as well; 1.45 with bfloat16. What
the processor's multipliers could do at best is 2.2.

Packed weights are what pays most: beside unpacked ones, all else alike, a clip of 2 s takes 0.24 CPU s in place of
0.51 and one of 10 s 1.18 in place of 2.34 (one thread, two shared cores, torch 2.13).

What does not pay, CPU seconds of a clip of 2 s on one thread (the same processor and torch, others at work beside it):

    packed weights, as here                              0.53
    unpacked weights                                     0.73
    unpacked weights, blocks through torch.compile       0.70, after 30 s of compiling

Inductor refuses packed weights (it lowers the operator for constants of its own graph only), and without them gains 5 %
by fusing what lies between the products; at its limit of eight recompilations some of the twelve blocks stay as
they are. Reordering weights with two threads is no faster than with one, and spins as long as others have the cores.

Nor does an attention bias in bfloat16, once the positional convolutions are: 405.1 ms of a clip of 10 s, and 405.2.

Nor do processes: 20 clips of 2 to 10 s took one process with two threads 12.0 s, and two processes of one thread, on a
core each, 13.6 s (medians of three rounds in turns), and packed weights of 0.6 GB in each. Threads share what is left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

_CHUNK_FRAMES = 50
"""Frames that pass the convolutions together: 1 s of sound, whose widest layer is 6.5 MB and stays in the cache, where
that of a 10 s clip is 65 MB of fresh memory for each of six steps."""


def linear(layer: Any, dtype: Any, *, gelu: bool = False) -> Callable[[Any], Any]:
    """Return a linear layer in another precision, with GELU after it if wanted.

    `layer` holds its weight in that form from then on, so that it is in memory once.
    """
    import torch

    bias = None if layer.bias is None else layer.bias.detach().to(dtype)
    weight, run = product(layer.weight.detach(), bias, dtype, gelu=gelu)
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias, requires_grad=False)
    return run


def product(weight: Any, bias: Any, dtype: Any, *, gelu: bool = False) -> tuple[Any, Callable[[Any], Any]]:
    """Return a matrix in the form that it is multiplied in fastest, and its product with rows.

    On a CPU that is oneDNN's own order of blocks, 1.2 times MKL's rate on AMD.
    """
    import torch
    from torch.nn import functional

    weight = weight.to(dtype)
    packed = _packed(weight) if weight.device.type == "cpu" else None
    if packed is None:

        def plain(x: Any) -> Any:
            y = functional.linear(x.to(dtype), weight, bias)
            return functional.gelu(y) if gelu else y

        return weight, plain
    run, kind, exact = torch.ops.mkldnn._linear_pointwise, "gelu" if gelu else "none", "none" if gelu else ""
    return packed, lambda x: run(x.to(dtype), packed, bias, kind, [], exact)


def _packed(weight: Any) -> Any:
    """Return a weight in oneDNN's own order; None where this torch has no such thing."""
    import torch

    try:
        return torch.ops.mkldnn._reorder_linear_weight(weight, None)
    except (AttributeError, RuntimeError):  # not built with oneDNN, or its operators are called otherwise
        return None


def has_amx() -> bool:
    """Whether bfloat16 is several times as fast as float32 here, also by oneDNN's own limit ``ONEDNN_MAX_CPU_ISA``."""
    import torch

    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return bool(torch.cpu._is_amx_tile_supported()) and (limit in ("", "ALL", "DEFAULT") or "AMX" in limit)


def convolution(layer: Any, dtype: Any) -> Callable[[Any], Any]:
    """Return a convolution of float32 in another precision, whose weight `layer` holds in that form from then on.

    In bfloat16 the five positional ones take 4.5 ms of a clip of 10 s in place of 9.9, on one core with AMX; as it was
    where oneDNN has no kernels for that.
    """
    import torch

    run = layer.forward
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return run  # type: ignore[no-any-return]
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(dtype), requires_grad=False)
    layer.bias = torch.nn.Parameter(layer.bias.detach().to(dtype), requires_grad=False)
    return lambda x: run(x.to(dtype)).float()


def stem(layers: Sequence[Any], dtype: Any) -> Callable[[Any, Sequence[int]], Any]:
    """Return the convolutions that make frames of samples, with channels last: each is one product of matrices.

    There is no padding and each frame is normalised by itself, so that any stretch of sound can be taken alone.

    Args:
        layers: FunASR's, each of a convolution without bias, dropout, a layer norm between two transpositions, GELU.
        dtype: of the products; the first layer, of one channel, stays in float32.

    Returns:
        A function of padded samples ``(clips, samples)`` and of the frames of each clip, giving ``(clips, channels,
        frames)`` with zeros for padding.
    """
    import torch
    from torch.nn import functional

    convolutions, norms = [layer[0] for layer in layers], [layer[2][1] for layer in layers]
    kernels = [each.kernel_size[0] for each in convolutions]
    strides = [each.stride[0] for each in convolutions]
    hop, reach = reach_of(kernels, strides)
    products = []
    for number, convolution in enumerate(convolutions):
        flat = convolution.weight.detach().transpose(1, 2).flatten(1)
        products.append(product(flat, None, dtype if number else torch.float32)[1])
    affine = [(each.weight.detach().to(dtype), each.bias.detach().to(dtype)) for each in norms]

    def stretch(samples: Any) -> Any:
        rows = samples[:, None]
        for number, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
            count, channels = (rows.shape[0] - kernel) // stride + 1, rows.shape[1]
            windows = rows.as_strided((count, kernel * channels), (stride * channels, 1), rows.storage_offset())
            rows = products[number](windows.contiguous()).to(dtype)
            norm = norms[number]
            rows = functional.gelu(functional.layer_norm(rows, norm.normalized_shape, *affine[number], norm.eps))
        return rows

    def run(sources: Any, frames: Sequence[int]) -> Any:
        out = sources.new_zeros((len(frames), max(frames), convolutions[-1].out_channels))
        for clip, count in enumerate(frames):
            for start in range(0, count, _CHUNK_FRAMES):
                end = min(start + _CHUNK_FRAMES, count)
                out[clip, start:end] = stretch(sources[clip, start * hop : (end - 1) * hop + reach])
        return out.transpose(1, 2)

    return run


def reach_of(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Return samples from one frame to the next, and samples that one frame is made of."""
    hop = reach = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        hop, reach = hop * stride, (reach - 1) * stride + kernel
    return hop, reach


def attention(module: Any, x: Any, attend: Callable[[Any, Any, Any], Any]) -> Any:
    """Compute self-attention with a module's weights: ``(clips, frames, dim)`` to the same.

    Args:
        module: FunASR's.
        x: what it is given.
        attend: a function of queries, keys and values, ``(clips, heads, frames, head_dim)`` to the same.
    """
    clips, frames, dim = x.shape
    heads = module.num_heads
    queries, keys, values = module.qkv(x).view(clips, frames, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    return module.proj(attend(queries, keys, values).transpose(1, 2).reshape(clips, frames, dim))
