"""Whisper's first blocks, taught emotion.

The stem is tuned together with two heads that were trained on it first, so that untrained heads do not spoil what the
stem knows (Kumar et al. 2022, https://arxiv.org/abs/2202.10054), with a rate that falls from block to block towards the
input, on copies of which no two are alike. One head learns what was acted, one what was heard. What comes out is the
moving average of the weights, averaged with Whisper's own (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903), so
that what tuning on two languages takes from others comes back. The heads are dropped: heads are trained anew on the
tuned stem as it ships, in int8.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from light_augment import Augmentation, degraded
from light_data import Pictures, Rows
from light_head import HeadOptions, Member, loss_of
from light_onnx import HEADS, WIDTH
from light_voice import BANDS
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from e2vsearch.encoders.light import levelled

Weights = dict[str, NDArray[np.float32]]

_LEAST = 1e-6  # of a variance: a root has no slope at zero
_STANDARD = 1_000  # clips that say how pooled frames scatter before anything is trained


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """How the stem is tuned; the defaults are those of the shipped weights."""

    head_epochs: int = 1  # with the stem as it is
    head_rate: float = 2e-3
    epochs: int = 6
    rate: float = 2e-4  # of the last block …
    falling: float = 0.8  # … and by so much less with each block below it, and the convolutions
    tuned_head_rate: float = 5e-4
    weight_decay: float = 1e-2
    batch: int = 96
    of_a_voice: int = 8  # clips in a row, so that a batch holds the same voice in several emotions
    frames: int = 260  # of a picture at most
    warm_up: float = 0.15  # share of the steps in which rates rise
    average: float = 0.98  # of the weights, a step
    clip: float = 5.0  # the longest gradient
    telephone_share: float = 0.35  # of clips
    own_voice: float = 10.0  # how often a clip of its own voice and another emotion counts against one
    second_share: float = 1 / 3  # of each batch, from the corpora after the first
    seed: int = 17


def mean_of(first: Mapping[str, NDArray[np.floating]], other: Weights, share: float) -> Weights:
    """`share` of the weights of `other` and the rest of those of `first`, both tuned from the same ones."""
    return {name: ((1 - share) * first[name] + share * weights).astype(np.float32) for name, weights in other.items()}


def tune(
    pictures: Pictures,
    rows: Rows,
    weights: Mapping[str, NDArray[np.floating]],
    blocks: Sequence[int],
    options: TuneOptions,
) -> Weights:
    """Return the weights of stem and blocks, tuned, by themselves: see `mean_of`.

    Args:
        pictures: of each clip; `TuneOptions.telephone_share` of what is heard are telephone copies.
        rows: their labels, weights, speakers, sentences and corpora.
        weights: Whisper's, by name.
        blocks: after which blocks frames are pooled for the heads, the first being 1.
        options: rates, sizes and the seed; the same on the same machine with as many threads give the same weights.
    """
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    stem = Stem(max(blocks))
    stem.load(weights)
    mean, deviation = _scatter(stem, pictures, blocks, rng)
    classes = int(max(rows.acted.max(), rows.heard.max())) + 1
    heads = nn.ModuleList(Member(2 * WIDTH * len(blocks), classes, HeadOptions()) for _ in (False, True))
    learner = _Learner(stem, heads, mean, deviation, blocks, options)
    for tuned, epochs in ((False, options.head_epochs), (True, options.epochs)):
        learner.begin(tuned, epochs * len(list(_batches(rows, options, np.random.default_rng(0)))))
        for epoch in range(epochs):
            losses = [
                learner.step(*_batch(_some(pictures, batch, options, rng), options, rng), rows[batch])
                for batch in _batches(rows, options, rng)
            ]
            print(f"  {'tuning' if tuned else 'head'} epoch {epoch + 1}: loss {np.mean(losses):.3f}", flush=True)
    return learner.average.export()


def _some(
    pictures: Pictures, chosen: NDArray[np.int64], options: TuneOptions, rng: np.random.Generator
) -> list[NDArray[np.float16]]:
    """Those clips, some of them through a telephone."""
    far = [rng.random() < options.telephone_share for _ in chosen]
    return [(pictures.telephone if away else pictures.clean)[at] for at, away in zip(chosen, far, strict=True)]


class Stem(nn.Module):  # type: ignore[misc]  # torch has no types that mypy could follow here
    """Whisper's convolutions and first blocks after the published architecture (https://arxiv.org/abs/2212.04356)."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(BANDS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(_Block() for _ in range(blocks))
        rates = torch.exp(-math.log(1e4) / (WIDTH // 2 - 1) * torch.arange(WIDTH // 2))
        self.register_buffer("rates", rates, persistent=False)

    def load(self, weights: Mapping[str, NDArray[np.floating]]) -> None:
        """Take the weights that are its own, by Whisper's names."""
        self.load_state_dict(
            {name: torch.from_numpy(np.asarray(weights[name], np.float32)) for name in self.state_dict()}
        )

    def export(self) -> Weights:
        """All weights by Whisper's names."""
        return {name: value.detach().numpy() for name, value in self.state_dict().items()}

    def forward(self, pictures: Tensor, real: Tensor) -> list[Tensor]:
        """Return the frames after each block, ``(n, frames, WIDTH)``, of pictures ``(n, 80, 2 frames)``.

        `real` ``(n, 2 frames)`` says which are not padding; what is real comes out as it would alone, and
        with up to `light_onnx.STRETCH` frames as it does in the graph that ships.
        """
        x = self.convolved(pictures, real)
        hidden = real[:, None, None, ::2].logical_not()
        after = []
        for block in self.blocks:
            x = block(x, hidden)
            after.append(x)
        return after

    def convolved(self, pictures: Tensor, real: Tensor) -> Tensor:
        """Return the frames ``(n, frames, WIDTH)`` that the first block sees."""
        x = functional.gelu(self.conv1(pictures)) * real[:, None]
        x = functional.gelu(self.conv2(x)).transpose(1, 2)
        angles = torch.arange(x.shape[1])[:, None] * self.rates
        return x + torch.cat([angles.sin(), angles.cos()], dim=1)


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.attn_ln = nn.LayerNorm(WIDTH)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(WIDTH, 3 * WIDTH), "out": nn.Linear(WIDTH, WIDTH)})
        self.mlp_ln = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        n, frames, _ = x.shape
        parts = self.attn["qkv"](self.attn_ln(x)).view(n, frames, 3, HEADS, WIDTH // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        # written out: torch's fused attention is slower than this on a CPU when it goes backwards through a mask
        likeness = (query * (WIDTH // HEADS) ** -0.5) @ key.transpose(-1, -2)
        mixed = likeness.masked_fill(hidden, -1e4).softmax(dim=-1) @ value
        x = x + self.attn["out"](mixed.transpose(1, 2).reshape(n, frames, WIDTH))
        return x + self.mlp(self.mlp_ln(x))


class _Learner:
    """Stem and heads with their optimiser, and the moving average of the stem."""

    def __init__(
        self,
        stem: Stem,
        heads: nn.ModuleList,
        mean: Tensor,
        deviation: Tensor,
        blocks: Sequence[int],
        options: TuneOptions,
    ) -> None:
        self._stem, self._heads, self._mean, self._deviation = stem, heads, mean, deviation
        self._blocks, self._options = blocks, options
        self.average = copy.deepcopy(stem)
        self._of_head = replace(HeadOptions(), own_voice=options.own_voice)
        self._tuned = False
        self._steps = 0

    def begin(self, tuned: bool, steps: int) -> None:
        """Another phase: the head alone, or both."""
        options, top = self._options, len(self._stem.blocks)
        self._tuned = tuned
        rate = options.tuned_head_rate if tuned else options.head_rate
        groups = [{"params": list(self._heads.parameters()), "lr": rate}]
        for name, weight in self._stem.named_parameters() if tuned else ():
            below = top - 1 - int(name.split(".")[1]) if name.startswith("blocks.") else top
            groups.append({"params": [weight], "lr": options.rate * options.falling**below})
        self._optimiser = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, [group["lr"] for group in groups], total_steps=steps + 1, pct_start=options.warm_up
        )

    def step(self, pictures: Tensor, real: Tensor, rows: Rows) -> float:
        """One batch; the loss."""
        with torch.set_grad_enabled(self._tuned):
            pooled = _pooled(self._stem, pictures, real, self._blocks)
        normal, speakers = (pooled - self._mean) / self._deviation, torch.from_numpy(rows.speakers)
        loss = torch.zeros(())
        for head, as_heard in zip(self._heads, (False, True), strict=True):
            labels, weights = (torch.from_numpy(each) for each in rows.labels(as_heard))
            embeddings, logits = head(normal)
            loss = loss + loss_of(embeddings, logits, labels, weights, speakers, self._of_head)
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._stem.parameters(), self._options.clip)
        self._optimiser.step()
        self._schedule.step()
        if self._tuned:
            self._steps += 1
            kept = min(self._options.average, self._steps / (self._steps + 5))  # the first steps count for little
            with torch.no_grad():
                for mean, now in zip(self.average.parameters(), self._stem.parameters(), strict=True):
                    mean.lerp_(now, 1 - kept)
        return float(loss.detach())


def _pooled(stem: Stem, pictures: Tensor, real: Tensor, blocks: Sequence[int]) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        after = stem(pictures, real)
    shares = real[:, ::2].float()
    shares = shares / shares.sum(dim=1, keepdim=True)
    views = []
    for frames in (after[block - 1].float() for block in blocks):
        mean = torch.einsum("nt,ntw->nw", shares, frames)
        scatter = torch.einsum("nt,ntw->nw", shares, (frames - mean[:, None]).square())
        views += [mean, (scatter + _LEAST).sqrt()]
    return torch.cat(views, dim=1)


def _scatter(stem: Stem, pictures: Pictures, blocks: Sequence[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``(width,)`` of pooled frames, of some clips."""
    options = TuneOptions()
    some = rng.permutation(len(pictures.clean))[:_STANDARD]
    with torch.no_grad():
        pooled = torch.cat(
            [
                _pooled(stem, *_batch(_some(pictures, part, options, rng), options, rng), blocks)
                for part in np.array_split(some, -(-len(some) // options.batch))
            ]
        )
    return pooled.mean(dim=0), pooled.std(dim=0) + 1e-6


def _batch(
    pictures: Sequence[NDArray[np.float16]], options: TuneOptions, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """One copy of each, ``(n, 80, even)``, and what is no padding."""
    copies = []
    for picture in pictures:
        decades = degraded(picture.astype(np.float32), Augmentation(), rng)
        start = int(rng.integers(0, max(1, decades.shape[1] - options.frames)))
        copies.append(levelled(decades[:, start : start + options.frames]))
    longest = max(each.shape[1] for each in copies)
    longest += longest % 2
    padded = np.zeros((len(copies), BANDS, longest), np.float32)
    real = np.zeros((len(copies), longest), bool)
    for row, each in enumerate(copies):
        padded[row, :, : each.shape[1]] = each
        real[row, : each.shape[1]] = True
    return torch.from_numpy(padded), torch.from_numpy(real)


def _batches(rows: Rows, options: TuneOptions, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Every clip of the first corpus once, some of a voice together; the share of the others drawn again and again."""
    first, others = rows.corpora == rows.corpora.min(), rows.corpora != rows.corpora.min()
    share = options.second_share if others.any() else 0.0
    ahead, beside = _order(rows, first, options, rng), np.empty(0, np.int64)
    size = options.batch - round(options.batch * share)
    for start in range(0, len(ahead) - size // 2, size):
        while beside.size < options.batch - size:
            beside = np.concatenate([beside, _order(rows, others, options, rng)])
        yield np.concatenate([ahead[start : start + size], beside[: options.batch - size]])
        beside = beside[options.batch - size :]


def _order(rows: Rows, chosen: NDArray[np.bool_], options: TuneOptions, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return some clips in random order, some of a voice together."""
    parts = []
    for speaker in np.unique(rows.speakers[chosen]):
        own = rng.permutation(np.flatnonzero(chosen & (rows.speakers == speaker)))
        parts += [own[start : start + options.of_a_voice] for start in range(0, len(own), options.of_a_voice)]
    return np.concatenate([parts[index] for index in rng.permutation(len(parts))])
