"""emotion2vec's products in 8 bits: weights scaled by output channel, activations by row as they come.

A row's scale is its own, and sums of 8-bit products are exact in 32 bits, so that rows of several clips are multiplied
together and a clip's vector is the same to the last bit whatever else is in its batch. What lies between the products
(scales, biases, norms, GELU, attention) is computed in floating point, some rows at a time, which stay in the cache:
over whole clips each of those passes takes three times as long.

Where AMX multiplies bfloat16, products are half of a vector's time, and what this saves on them it loses between them
(GELU, which oneDNN appends to a product of bfloat16, is a pass of its own here). Tried without gain, CPU ms of one
thread on two busy cores: stretches of 256 rows through each convolution, 142 for those of a clip of 10 s in place of
124 with AMX, 187 in place of 193 without; positional convolutions as products by group, 116 for a clip of 2 s in place
of 109 with AMX, 163 in place of 170 without, at a cosine with fp32 of .9989 in place of .9991.

oneDNN multiplies unsigned activations by signed weights on every processor with VNNI or AMX; signed ones it leaves to
its reference loop without AMX, a thousand times slower. Processors before VNNI add two products in 16 bits and
saturate, without an error: `check` multiplies the largest numbers and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from e2vsearch.encoders.emotion2vec import onednn
from e2vsearch.errors import EncoderUnavailable

_SIGNED_ZERO = 128
"""The code of 0 for numbers of either sign; the largest of a row, or its opposite, is 127 codes away."""

_GELU_ZERO = 32
"""The code of 0 for what GELU gives: nothing is below -0.17, so that 223 codes are left above."""

_GELU_LEAST = 0.17
_MAGIC = 1.5 * 2**23
"""Added to a float32, it leaves the nearest integer in the low bits: rounding and offset cost one pass together."""

_TINY = 1e-20
"""The least that a row's largest number is taken for, so that a row of zeros has codes of 0."""

_CACHED = 2**17
"""Numbers of a float32 pass, 0.5 MB: with what they become they stay in a core's second cache."""

_STEM_FRAMES = 50
"""Frames that pass the convolutions together: 1 s of sound."""


def check() -> None:
    """Check that 8-bit products are exact here.

    Raises:
        EncoderUnavailable: this torch has no such operators, or this processor's are wrong or missing.
    """
    import torch

    cure = "use --precision fp32"
    try:
        weight = torch.full((64, 256), 127, dtype=torch.int8)
        codes = torch.full((64, 256), 255, dtype=torch.uint8)
        product = _multiply(codes, torch.ops.onednn.qlinear_prepack(weight, None), torch.ones(64), _SIGNED_ZERO)
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        raise EncoderUnavailable(
            f"int8 needs torch for x86 with oneDNN's 8-bit products (qlinear_pointwise), and torch {torch.__version__} "
            f"has none here; {cure}"
        ) from error
    if not bool((product == 127.0 * 127 * 256).all()):
        raise EncoderUnavailable(
            "int8 needs a processor whose 8-bit products are exact (AVX-512 VNNI, AVX-VNNI or AMX), and here they "
            f"overflow; {cure}"
        )


class Product:
    """A matrix in 8 bits, by output channel, that rows of codes are multiplied by.

    Args:
        weight: ``(outer, inner)`` float32.
        bias: ``(outer,)`` or None.
        zero: the code of 0 in the rows: `_SIGNED_ZERO` or `_GELU_ZERO`.
    """

    def __init__(self, weight: Any, bias: Any, zero: int) -> None:
        import torch

        outer, inner = weight.shape
        self._scales = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        codes = (weight / self._scales[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(codes, None)
        self.bias = torch.zeros(outer) if bias is None else bias.detach().clone()
        self._zero = zero
        self._rounded = torch.full((inner,), _MAGIC + zero)

    def multiply(self, codes: Any) -> Any:
        """Return products ``(rows, outer)`` float32, each row still to be multiplied by its scale."""
        return _multiply(codes, self._weight, self._scales, self._zero)

    def encode(self, values: Any, codes: Any, scales: Any, largest: Any = None) -> None:
        """Write codes ``(rows, inner)`` uint8 and scales ``(rows, 1)`` of float32 rows.

        `largest` is that of each row, ``(rows, 1)``, where it is known already.
        """
        import torch

        if largest is None:
            largest = values.amax(1, keepdim=True)
            if self._zero == _SIGNED_ZERO:
                largest = torch.maximum(largest, values.amin(1, keepdim=True).neg_())
        if self._zero == _SIGNED_ZERO:
            factor = 127 / largest.clamp_min(_TINY)
        else:
            factor = ((255 - _GELU_ZERO) / largest.clamp_min(_TINY)).clamp_max_(_GELU_ZERO / _GELU_LEAST)
        torch.reciprocal(factor, out=scales)
        rounded = torch.addcmul(self._rounded, values, factor)
        codes.view(torch.int8).copy_(rounded.view(torch.int32))  # the low byte of each


def _multiply(codes: Any, weight: Any, scales: Any, zero: int) -> Any:
    import torch

    run = torch.ops.onednn.qlinear_pointwise
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    return run(codes, 1.0, zero, weight, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")


def empty_codes(rows: int, inner: int) -> tuple[Any, Any]:
    """Return memory for codes ``(rows, inner)`` uint8 and their scales ``(rows, 1)`` float32."""
    import torch

    return torch.empty((rows, inner), dtype=torch.uint8), torch.empty((rows, 1))


class Block:
    """One transformer block over the rows of any number of clips.

    Args:
        block: FunASR's, whose norms follow what they normalise. Its linear layers are emptied.
        attention_dtype: what queries, keys and values are given in.
    """

    def __init__(self, block: Any, attention_dtype: Any) -> None:
        def product(layer: Any, zero: int = _SIGNED_ZERO) -> Product:
            made = Product(layer.weight.detach(), layer.bias, zero)
            layer.weight = layer.bias = None  # in memory once
            return made

        self.qkv, self._proj = product(block.attn.qkv), product(block.attn.proj)
        self._fc1, self._fc2 = product(block.mlp.fc1), product(block.mlp.fc2, _GELU_ZERO)
        self._norm1, self._norm2 = block.norm1, block.norm2
        self._dtype = attention_dtype

    def run(self, rows: Any, coded: tuple[Any, Any], attend: Callable[[Any], Any], following: Product | None) -> Any:
        """Return what the block makes of rows ``(rows, dim)``, and the codes of that for the next block.

        Args:
            rows: float32.
            coded: their codes and scales, for `qkv`.
            attend: from ``(rows, 3 * dim)`` to ``(rows, dim)``.
            following: what the result is multiplied by next; None: nothing.
        """
        import torch
        from torch.nn import functional

        codes, scales = coded
        products = self.qkv.multiply(codes)
        given = torch.empty(products.shape, dtype=self._dtype)
        for part in parts(products):
            given[part] = torch.addcmul(self.qkv.bias, products[part], scales[part])
        rows, coded = self._added(rows, *self._projected(attend(given)), self._proj, self._norm1, self._fc1)
        codes, scales = coded
        products = self._fc1.multiply(codes)
        codes, hidden_scales = empty_codes(*products.shape)
        for part in parts(products):
            hidden = torch.addcmul(self._fc1.bias, products[part], scales[part])
            self._fc2.encode(functional.gelu(hidden), codes[part], hidden_scales[part])
        return self._added(rows, self._fc2.multiply(codes), hidden_scales, self._fc2, self._norm2, following)

    def _projected(self, attended: Any) -> tuple[Any, Any]:
        codes, scales = empty_codes(*attended.shape)
        for part in parts(attended):
            self._proj.encode(attended[part].float(), codes[part], scales[part])
        return self._proj.multiply(codes), scales

    @staticmethod
    def _added(rows: Any, products: Any, scales: Any, made: Product, norm: Any, following: Product | None) -> Any:
        import torch

        out = torch.empty_like(rows)
        coded = empty_codes(*rows.shape)
        for part in parts(rows):
            total = torch.addcmul(rows[part], products[part], scales[part]).add_(made.bias)
            out[part] = normed = norm(total)
            if following is not None:
                following.encode(normed, coded[0][part], coded[1][part])
        return out, coded


def parts(rows: Any) -> list[slice]:
    """Return slices of rows that stay in the cache."""
    step = max(1, _CACHED // rows.shape[1])
    return [slice(start, start + step) for start in range(0, len(rows), step)]


def blocks(every: Sequence[Any], attention_dtype: Any) -> Callable[..., Any]:
    """Return all transformer blocks as one function of the rows of all clips.

    The function takes rows ``(rows, dim)`` float32, ``attend(number, rows)`` for the attention of a block, and
    ``then(rows)`` that is called after each.
    """
    made = [Block(each, attention_dtype) for each in every]

    def run(rows: Any, attend: Callable[[int, Any], Any], then: Callable[[Any], Any]) -> Any:
        coded = empty_codes(*rows.shape)
        for part in parts(rows):
            made[0].qkv.encode(rows[part], coded[0][part], coded[1][part])
        for number, block in enumerate(made):
            following = made[number + 1].qkv if number + 1 < len(made) else None
            rows, coded = block.run(rows, coded, partial(attend, number), following)
            then(rows)
        return rows

    return run


def projection(norm: Any, linear: Any) -> Callable[[Any], Any]:
    """Return a norm and a linear layer after it, from rows ``(rows, inner)`` to ``(rows, outer)`` float32."""
    import torch

    product = Product(linear.weight.detach(), linear.bias, _SIGNED_ZERO)

    def run(rows: Any) -> Any:
        codes, scales = empty_codes(*rows.shape)
        for part in parts(rows):
            product.encode(norm(rows[part]), codes[part], scales[part])
        return torch.addcmul(product.bias, product.multiply(codes), scales)

    return run


def stem(layers: Sequence[Any]) -> Callable[[Any, int], Any]:
    """Return the convolutions that make frames of samples, as `onednn.stem` does, all but the first in 8 bits.

    A window of frames that a convolution reads is one row, whose scale is by the largest of its frames.

    Args:
        layers: FunASR's, each of a convolution without bias, dropout, a layer norm between two transpositions, GELU.

    Returns:
        A function of one clip's samples and its frames, giving ``(frames, channels)``.
    """
    import torch
    from torch.nn import functional

    convolutions, norms = [layer[0] for layer in layers], [layer[2][1] for layer in layers]
    kernels = [each.kernel_size[0] for each in convolutions]
    strides = [each.stride[0] for each in convolutions]
    hop, reach = onednn.reach_of(kernels, strides)
    flat = [each.weight.detach().transpose(1, 2).flatten(1) for each in convolutions]
    first = onednn.product(flat[0], None, torch.float32)[1]
    products = [Product(each, None, _GELU_ZERO) for each in flat[1:]]

    def activated(rows: Any, norm: Any) -> Any:
        return functional.gelu(functional.layer_norm(rows, norm.normalized_shape, norm.weight, norm.bias, norm.eps))

    def stretch(samples: Any) -> Any:
        count = (len(samples) - kernels[0]) // strides[0] + 1
        windows = samples.as_strided((count, kernels[0]), (strides[0], 1), samples.storage_offset())
        rows = activated(first(windows.contiguous()), norms[0])
        for product, norm, kernel, stride in zip(products, norms[1:], kernels[1:], strides[1:], strict=True):
            count, channels = (len(rows) - kernel) // stride + 1, rows.shape[1]
            windows = rows.as_strided((count, kernel * channels), (stride * channels, 1))
            largest = rows.amax(1)
            largest = torch.stack([largest[at::stride][:count] for at in range(kernel)]).amax(0)[:, None]
            codes, scales = empty_codes(count, kernel * channels)
            for part in parts(windows):
                product.encode(windows[part], codes[part], scales[part], largest[part])
            rows = activated(product.multiply(codes).mul_(scales), norm)
        return rows

    def run(samples: Any, frames: int) -> Any:
        out = torch.empty((frames, convolutions[-1].out_channels))
        for start in range(0, frames, _STEM_FRAMES):
            end = min(start + _STEM_FRAMES, frames)
            out[start:end] = stretch(samples[start * hop : (end - 1) * hop + reach])
        return out

    return run
