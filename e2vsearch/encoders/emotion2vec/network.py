"""FunASR's emotion2vec network is run over clips of any lengths at once.

Three things make a padded batch give each clip what it gets alone. Samples are normalised before they are padded. The
positional convolution, which reads 45 frames past a clip's end, is shown zeros there, as alone it would be: as shipped,
it reads frames that the biases before it have made non-zero, and vectors come out wrong by up to 0.18 of a norm of 27.
And attention sees a clip's own frames only. The first and third replace what FunASR does, the second is a hook on its
convolutions (facts: https://github.com/ddlBoJack/emotion2vec/issues/37).

FunASR's table of attention biases, which only ever grows (144 MB for 30 s, 14.4 GB for five minutes), is not used: a
batch makes the one it needs, and none above `_KEPT_FRAMES` is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.encoders.base import Precision
from e2vsearch.encoders.emotion2vec import int8
from e2vsearch.encoders.emotion2vec import onednn as faster
from e2vsearch.errors import EncoderUnavailable

_KEPT_FRAMES = 512
"""The longest attention bias that is kept, with its extra tokens: 10 s, 17 MB for 16 heads."""


@dataclass(slots=True)
class _Call:
    """What the modules must know of the batch that runs in this thread."""

    frames: Sequence[int]  # of each clip
    valid: Any = None  # (clips, 1, frames): 1 for a clip's own, 0 for padding; None: there is no padding
    bias: tuple[int, Any] | None = None  # which row of the slopes, and what is added to attention by it
    means: list[Any] | None = None  # over time, of the one clip after each block, ``(dim,)``; None: not wanted


class Network:
    """FunASR's module, run by as many threads at a time as like.

    Args:
        module: the network, filled and in eval mode. Its linear layers are changed for good: it belongs to this.
        precision: of the products; sums between layers, their norms and scores stay in float32.

    Attributes:
        min_samples: the shortest clip, in samples.
        hop: samples from one frame to the next.
        blocks: transformer blocks, those of the context encoder ("prenet") first.
        batched: whether clips may share a batch; not if a norm of the first layer spans time, which padding changes.
    """

    def __init__(self, module: Any, *, precision: Precision = "fp32") -> None:
        import torch

        if precision == "int8":
            _check_quantizable(module)

        self.module = module
        self.device = next(module.parameters()).device
        self._normalize = bool(module.cfg.normalize)
        self._calls = threading.local()
        audio = module.modality_encoders["AUDIO"]
        stem = list(audio.local_encoder.conv_layers)
        self._convolutions = [(layer[0].kernel_size[0], layer[0].stride[0]) for layer in stem]
        strides = [stride for _, stride in self._convolutions]
        self.hop = prod(strides)
        self.min_samples = 1 + sum((kernel - 1) * prod(strides[:i]) for i, (kernel, _) in enumerate(self._convolutions))
        self.batched = all(isinstance(layer[2], torch.nn.Sequential) for layer in stem)
        self._together = self.device.type != "cpu"  # a GPU wants few large products, a CPU none on padding

        blocks = [*audio.context_encoder.blocks, *module.blocks]
        self.blocks = len(blocks)
        linears = [layer for each in blocks for layer in (each.attn.qkv, each.attn.proj, each.mlp.fc1, each.mlp.fc2)]
        if not self._together:
            _copy_unpacked(module, linears)
        half = precision in ("bf16", "bf16-as-fp32")
        dtype = torch.bfloat16 if half else torch.float32
        self._in_int8: Callable[[Any, _Call], list[Any]] | None = None
        if precision == "int8":
            self._in_int8 = self._in_8_bits(blocks, stem)
            blocks = stem = []
        elif self.batched and not self._together:
            run = faster.stem(stem, dtype)
            audio.local_encoder.forward = lambda sources: run(sources, self._call.frames)
        elif half:
            audio.local_encoder.forward = partial(_half, audio.local_encoder.forward, self.device.type)
        for each in audio.relative_positional_encoder.modules():
            if isinstance(each, torch.nn.Conv1d):
                each.register_forward_pre_hook(self._hide_padding)
                if (half or (self._in_int8 is not None and faster.has_amx())) and not self._together:
                    each.forward = faster.convolution(each, torch.bfloat16)
        for number, block in enumerate(blocks):
            block.attn.forward = partial(self._attention, block.attn, number)
            block.register_forward_hook(self._keep_mean)
            fused = isinstance(block.mlp.act, torch.nn.GELU) and block.mlp.act.approximate == "none"
            for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
                layer.forward = faster.linear(layer, dtype, gelu=fused and layer is block.mlp.fc1)
            if fused:
                block.mlp.act = torch.nn.Identity()

        self._bias_dtype = dtype if self._together else torch.float32  # kernels for GPUs take one type only
        self._extra = int(audio.modality_cfg.num_extra_tokens)
        self._kept: tuple[int, Any] | None = None
        heads = int(module.cfg.num_heads)
        self._slopes = torch.zeros((1, heads), device=self.device)
        if audio.get_alibi_bias is not None:
            biased = int(audio.modality_cfg.num_alibi_heads)
            two = audio.get_alibi_bias(
                batch_size=1, time_steps=2, heads=biased, dtype=torch.float32, device=self.device
            )
            slopes = two[0, :, 0, 1]  # what each head takes off for one step
            scales = audio.alibi_scale.detach().float().clamp_min(0).flatten(1)  # (1 or blocks, 1 or heads)
            self._slopes = torch.nn.functional.pad(slopes * scales, (0, heads - biased))
            audio.get_alibi_bias = None
            module.alibi_biases.clear()

    def frames_of(self, samples: int) -> int:
        """Return how many frames a clip of so many samples has."""
        for kernel, stride in self._convolutions:
            samples = (samples - kernel) // stride + 1
        return samples

    def run(self, signals: Sequence[NDArray[np.float32]]) -> list[Any]:
        """Return the network's last layer for each signal, tensors ``(frames, dim)`` float32 on its device.

        To be called under `torch.inference_mode`.
        """
        return self._run(signals, None)

    def layers(self, signal: NDArray[np.float32]) -> Any:
        """Return the mean over time after each block, ``(blocks, dim)`` float32; the last is of what `run` gives.

        To be called under `torch.inference_mode`.
        """
        import torch

        means: list[Any] = []
        (last,) = self._run([signal], means)
        return torch.stack([*means[:-1], last.mean(dim=0)])  # a norm that ends the network belongs to its last row

    def _run(self, signals: Sequence[NDArray[np.float32]], means: list[Any] | None) -> list[Any]:
        frames = [self.frames_of(signal.size) for signal in signals]
        sources = self._padded(signals)
        call = self._calls.call = _Call(frames, means=means)
        try:
            if min(frames) < max(frames):
                call.valid = (self._steps(max(frames)) < sources.new_tensor(frames)[:, None]).float()[:, None]
            if self._in_int8 is not None:
                return self._in_int8(sources, call)
            out = self.module.extract_features(sources, padding_mask=None)["x"]
        finally:
            del self._calls.call
        return [clip[:count].float() for clip, count in zip(out, frames, strict=True)]

    def _in_8_bits(self, blocks: Sequence[Any], stem: Sequence[Any]) -> Callable[[Any, _Call], list[Any]]:
        """Return the network as one function of padded samples: clips share the products, and nothing else."""
        import torch

        audio = self.module.modality_encoders["AUDIO"]
        convolutions = int8.stem(stem)
        projection = int8.projection(*audio.project_features[1:])
        transformer = int8.blocks(blocks, torch.bfloat16 if faster.has_amx() else torch.float32)
        scales = [block.attn.scale for block in blocks]

        def begun(source: Any, frames: int) -> Any:
            features = projection(convolutions(source, frames))[None]
            features = features + audio.relative_positional_encoder(features)
            return features[0] if audio.extra_tokens is None else torch.cat([audio.extra_tokens[0], features[0]])

        def run(sources: Any, call: _Call) -> list[Any]:
            tokens = [frames + self._extra for frames in call.frames]
            call.valid = None  # each clip passes alone what reads beyond a row
            rows = torch.cat([begun(source, frames) for source, frames in zip(sources, call.frames, strict=True)])

            def attend(number: int, given: Any) -> Any:
                bias = self._call_bias(call, number)
                out = [self._attend_alone(clip, bias, scales[number]) for clip in given.split(tokens)]
                return torch.cat(out) if len(out) > 1 else out[0]

            def then(rows: Any) -> None:
                if call.means is not None:
                    call.means.append(rows[self._extra :].mean(dim=0))

            rows = transformer(audio.context_encoder.norm(rows), attend, then)
            return [clip[self._extra :] for clip in rows.split(tokens)]

        return run

    def _attend_alone(self, given: Any, bias: Any, scale: float) -> Any:
        """Return attention of one clip, ``(tokens, dim)``, given queries, keys and values ``(tokens, 3 * dim)``."""
        from torch.nn import functional

        tokens, heads = len(given), bias.shape[1]
        queries, keys, values = given.view(1, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        mask = bias[:, :, :tokens, :tokens]
        out = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)
        return out.transpose(1, 2).reshape(tokens, -1)

    def _call_bias(self, call: _Call, block: int) -> Any:
        row = min(block, len(self._slopes) - 1)
        if call.bias is None or call.bias[0] != row:
            call.bias = row, self._masked(call, self._bias(max(call.frames), row))
        return call.bias[1]

    def _padded(self, signals: Sequence[NDArray[np.float32]]) -> Any:
        """Return all signals as one tensor, each normalised by itself, with zeros after its end."""
        import torch
        from torch.nn import functional

        longest = max(signal.size for signal in signals)
        pinned = self.device.type == "cuda"  # or the copy would wait for the batch before it
        samples = torch.zeros((len(signals), longest), pin_memory=pinned)
        for row, signal in zip(samples, signals, strict=True):
            row[: signal.size] = torch.from_numpy(np.array(signal))  # a copy: torch warns of read-only memory
        samples = samples.to(self.device, non_blocking=True)
        if self._normalize:
            for row, signal in zip(samples, signals, strict=True):
                own = row[: signal.size]
                own.copy_(functional.layer_norm(own, own.shape))
        return samples

    @property
    def _call(self) -> _Call:
        call: _Call = self._calls.call
        return call

    def _hide_padding(self, _module: Any, inputs: tuple[Any]) -> tuple[Any]:
        valid = self._call.valid
        return inputs if valid is None else (inputs[0] * valid,)

    def _keep_mean(self, _module: Any, _inputs: Any, output: tuple[Any, ...]) -> None:
        if (means := self._call.means) is not None:
            means.append(output[0][0, self._extra :].float().mean(dim=0))

    def _attention(self, module: Any, block: int, x: Any, padding_mask: Any = None, alibi_bias: Any = None) -> Any:
        """Stand in for FunASR's attention, with the masks and biases of this call."""
        del padding_mask, alibi_bias
        call = self._call
        return faster.attention(module, x, partial(self._attend, call, self._call_bias(call, block), module.scale))

    def _attend(self, call: _Call, bias: Any, scale: float, queries: Any, keys: Any, values: Any) -> Any:
        from torch.nn import functional

        fused = functional.scaled_dot_product_attention
        if self._together or call.valid is None:
            return fused(queries, keys, values, attn_mask=bias, scale=scale)
        out = values.new_zeros(values.shape)
        for clip, frames in enumerate(call.frames):  # nothing is spent on padding, and there is nothing to mask
            one, own = slice(clip, clip + 1), slice(frames + self._extra)
            query, key, value = (each[one, :, own] for each in (queries, keys, values))
            out[one, :, own] = fused(query, key, value, attn_mask=bias[:, :, own, own], scale=scale)
        return out

    def _masked(self, call: _Call, bias: Any) -> Any:
        """Return a bias, with -inf for padding if clips attend together: one for each clip then."""
        from torch.nn import functional

        if call.valid is None or not self._together:
            return bias
        own = functional.pad(call.valid[:, None], (self._extra, 0), value=1.0).bool()
        return bias.masked_fill(~own, float("-inf"))

    def _steps(self, frames: int) -> Any:
        import torch

        return torch.arange(frames, device=self.device)

    def _bias(self, frames: int, row: int) -> Any:
        """Return the attention bias by distance, ``(1, heads, tokens, tokens)``; 0 for extra tokens."""
        import torch

        tokens, kept = frames + self._extra, self._kept
        if kept is not None and kept[0] == row and kept[1].shape[-1] >= tokens:
            return kept[1][:, :, :tokens, :tokens]
        keeps = tokens <= _KEPT_FRAMES and len(self._slopes) == 1
        size = _KEPT_FRAMES if keeps else tokens
        steps = self._steps(size - self._extra).float()
        bias = torch.zeros((1, self._slopes.shape[1], size, size), dtype=self._bias_dtype, device=self.device)
        distance = (steps[:, None] - steps).abs()
        bias[:, :, self._extra :, self._extra :] = self._slopes[row][None, :, None, None] * distance
        if keeps:
            self._kept = row, bias
        return bias[:, :, :tokens, :tokens]


def _check_quantizable(module: Any) -> None:
    """Check that a network is of the published kind, which is what is computed in 8 bits, on this processor."""
    import torch

    if next(module.parameters()).device.type != "cpu":
        raise EncoderUnavailable("int8 is for CPUs; use --precision bf16 on this device, or --device cpu")
    audio = module.modality_encoders["AUDIO"]
    acts = [each.mlp.act for each in (*audio.context_encoder.blocks, *module.blocks)]
    if (
        module.cfg.layer_norm_first
        or module.norm is not None
        or not all(isinstance(layer[2], torch.nn.Sequential) for layer in audio.local_encoder.conv_layers)
        or not all(isinstance(act, torch.nn.GELU) and act.approximate == "none" for act in acts)
    ):
        raise EncoderUnavailable(
            "int8 is for networks like the published ones, with GELU and norms after each block and of each frame, and "
            "config.yaml describes another; use --precision fp32"
        )
    int8.check()


def _copy_unpacked(module: Any, linears: Sequence[Any]) -> None:
    """Copy what will not be packed, 45 MB: one tensor left in the mapped file would keep all of it in memory."""
    import torch

    packed = {id(layer.weight) for layer in linears}
    with torch.no_grad():
        for each in (*module.parameters(), *module.buffers()):
            if id(each) not in packed:
                each.data = each.data.clone()


def _half(forward: Callable[[Any], Any], device: str, sources: Any) -> Any:
    """Run FunASR's own convolutions in bfloat16, where their weights stay in float32."""
    import torch

    with torch.autocast(device, torch.bfloat16):
        return forward(sources).float()
