"""The head that turns pooled Whisper frames into an emotion embedding. Knows features and labels, nothing of audio.

Each member is a small MLP whose output, on the unit sphere, is pulled towards the same emotion in *other* voices
(supervised contrastive loss, Khosla et al. 2020, https://arxiv.org/abs/2004.11362) and read by a linear classifier
(cross-entropy). A voice's clips of the same emotion are no positives, and its clips of other emotions are negatives,
so that likeness of voice earns nothing. Members differ by seed only; their embeddings are laid side by side. What is
left of the voice in their first layers, and can be told from how far the picture's bands swing, is taken off; behind
what they say comes the voice part, by which a collection tells its voices apart (`light_voice`).

Half of the clips in a batch are moved to another sentence: what clips of their own sentence have in common is taken off
and what those of another have is put on, as far as emotion does not account for it. So the sentence tells nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from light_voice import BANDS, Rows, VoicePart, directions, shift
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from e2vsearch.projections.shipped import Shipped
from e2vsearch.projections.voices import nobody

EMOTION_DIMS = 128
"""Of a projected vector. The members' 384 numbers have 99.6 % of their squares in so many directions."""

NUANCE_DIMS = 256
"""Of a projected vector, so that it is no longer than what the first layers say."""

VOICE_SHARE = 1e-4
"""Of the squares of a vector: who compares vectors without a projection, or trains on them, hears nothing of it."""


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How a head is trained; the defaults are those of the shipped weights."""

    members: int = 3
    hidden: int = 128  # 256 are no better, and 1.4 MB more
    dim: int = 128  # of one member
    steps: int = 130  # 250 gain .01 mAP on unseen voices of CREMA-D, and lose .025 on EMO-DB
    batch: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    # of pooled features: .5 has .005 mAP more on EMO-DB, .003 less through a telephone and .005 less on unseen voices
    dropout_in: float = 0.2
    dropout: float = 0.5  # of hidden units
    temperature: float = 0.2  # of the contrastive loss
    smoothing: float = 0.1  # of the labels, for the classifier
    moved: float = 0.5  # share of clips that are moved to another sentence
    own_voice: float = 300.0  # how often a clip of its own voice and another emotion counts against one
    own: tuple[int, int] = (0, 3)  # copies that leave a voice as it is: clean, and through a telephone
    ridge: float = 0.03  # of the regression on the bands, as a share of what they vary
    seed: int = 17  # member i trains from seed + i


@dataclass(frozen=True, slots=True)
class LightHead:
    """A trained head, ready for export: normalisation folded into its first layer, members stacked.

    The encoder's vectors are what the first layers say, less their bias: linear in pooled frames, and zero at the mean
    of all that was trained on. So a collection's own centre can be taken off them before anything bends them. Behind
    that comes the voice part.
    """

    wide: NDArray[np.float32]  # (members, features and the bands' deviations, hidden)
    offset: NDArray[np.float32]  # (members, 1, hidden): what the mean of the training features is set off by
    bias: NDArray[np.float32]  # (members, 1, hidden)
    narrow: NDArray[np.float32]  # (members, hidden, dim of one)
    narrow_bias: NDArray[np.float32]  # (members, 1, dim of one)
    classify: NDArray[np.float32]  # (members, dim of one, classes)
    classify_bias: NDArray[np.float32]  # (members, 1, classes)
    voice: VoicePart

    @property
    def heard(self) -> int:
        """Numbers of a vector that come from the first layers."""
        return int(self.wide.shape[0] * self.wide.shape[2])

    @property
    def dim(self) -> int:
        """Of the encoder's vectors."""
        return self.heard + self.voice.dim

    @property
    def classes(self) -> int:
        """How many emotions it scores."""
        return int(self.classify.shape[2])

    def __call__(self, pooled: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors ``(n, dim)`` and class probabilities ``(n, classes)`` of pooled features ``(n, features)``."""
        heard, means, deviations = np.split(pooled, [pooled.shape[1] - 2 * BANDS, pooled.shape[1] - BANDS], axis=1)
        first = np.concatenate([heard, deviations], axis=1) @ self.wide + self.offset
        wide = functional.silu(torch.from_numpy(first + self.bias)).numpy()
        parts = wide @ self.narrow + self.narrow_bias
        parts /= np.linalg.norm(parts, axis=-1, keepdims=True)
        logits = (parts @ self.classify + self.classify_bias).mean(axis=0)
        vectors = np.concatenate([*first, self.voice(np.concatenate([means, deviations], axis=1))], axis=1)
        return vectors, torch.from_numpy(logits).softmax(dim=1).numpy()

    def projection(self, pooled: NDArray[np.float32], share: float) -> Shipped:
        """What the encoder ships to compare its vectors by, resting on the mean of what it was trained on.

        Args:
            pooled: ``(n, features)`` of clips as they are, to say where each class lies and in which directions
                anything differs at all.
            share: of nuance.
        """
        vectors, scores = self(pooled)
        full = Shipped(
            bias=self.bias.reshape(-1),
            centre=np.zeros(self.heard, np.float32),
            means=(scores.T @ vectors[:, : self.heard]) / scores.sum(axis=0)[:, None],
            narrow=self.narrow,
            narrow_bias=self.narrow_bias[:, 0],
            classes=self.classify,
            classes_bias=self.classify_bias[:, 0],
            emotion=np.eye(self.narrow.shape[0] * self.narrow.shape[2], dtype=np.float32),
            nuance=np.eye(self.heard, dtype=np.float32),
            voices=nobody(self.narrow.shape[0] * self.narrow.shape[2], self.voice.dim, self.heard),
            share=0.5,
        )
        said, heard = np.split(full.apply(vectors), [full.dim_emotion], axis=1)
        emotion, nuance = _directions(said, EMOTION_DIMS), _directions(heard, NUANCE_DIMS)
        known = nobody(EMOTION_DIMS, self.voice.dim, self.heard)
        return replace(full, emotion=emotion, nuance=nuance, voices=known, share=share)


def _directions(values: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """Orthonormal ``(width, dims)`` that hold most of the lengths of rows; their signs do not matter to a cosine."""
    _, found = np.linalg.eigh(values.T.astype(np.float64) @ values)
    return np.ascontiguousarray(found[:, ::-1][:, :dims], dtype=np.float32)


class Member(nn.Module):  # type: ignore[misc]  # torch has no types that mypy could follow here
    """One member, before its normalisation is folded in."""

    def __init__(self, features: int, classes: int, options: HeadOptions) -> None:
        super().__init__()
        self.wide = nn.Linear(features, options.hidden)
        self.narrow = nn.Linear(options.hidden, options.dim)
        self.classify = nn.Linear(options.dim, classes)
        self.drop_in, self.drop = nn.Dropout(options.dropout_in), nn.Dropout(options.dropout)
        # inputs are unit vectors: from weights of about 1 / sqrt(dim) the logits would take epochs to reach any size
        nn.init.normal_(self.classify.weight, std=2.0)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors and logits of normalised features."""
        hidden = self.drop(functional.silu(self.wide(self.drop_in(features))))
        embedding = functional.normalize(self.narrow(hidden), dim=1)
        return embedding, self.classify(embedding)


def train(features: NDArray[np.float32], rows: Rows, scored: int, options: HeadOptions) -> LightHead:
    """A head of `options.members` members, each trained on all clips; each time one is seen, in any of its copies.

    Args:
        features: ``(n, copies, width)`` pooled frames, not normalised; mean and deviation become part of the head. The
            last 160 are means and deviations of the picture's bands: no member hears them, they tell of the voice.
        rows: emotion, speaker and sentence of the n clips.
        scored: how many emotions get a score; those from there on shape the embedding alone.
        options: sizes, rates and the seed; the same options on the same machine give the same head.
    """
    heard, bands = np.split(features, [features.shape[2] - 2 * BANDS], axis=2)
    flat = heard.reshape(-1, heard.shape[2])
    mean, deviation = flat.mean(axis=0), flat.std(axis=0) + 1e-6
    normal = torch.from_numpy((heard - mean) / deviation)
    members = [_train_member(normal, rows, options, options.seed + index) for index in range(options.members)]

    def stack(arrays: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.ascontiguousarray(np.stack(arrays), dtype=np.float32)

    weights = [{name: value.detach().numpy() for name, value in member.named_parameters()} for member in members]
    wide = stack([weight["wide.weight"].T / deviation[:, None] for weight in weights])
    wide = wide.astype(np.float16).astype(np.float32)  # as it ships: half of 1.2 MB
    offset = -mean @ wide[:, None]
    first = np.concatenate([*(heard[:, options.own] @ wide[:, None] + offset[:, None])], axis=2)
    slope, level = shift(first, bands[:, options.own, BANDS:], rows, options.ridge)
    by_member, levels = (np.stack(np.split(each, options.members, axis=-1)) for each in (slope, level[None]))
    length = VOICE_SHARE**0.5 * float(np.sqrt((first.astype(np.float64) ** 2).sum(axis=2).mean()))
    return LightHead(
        wide=np.concatenate([wide, -by_member.astype(np.float16).astype(np.float32)], axis=1),
        offset=offset + levels,
        bias=stack([weight["wide.bias"][None] for weight in weights]),
        narrow=stack([weight["narrow.weight"].T for weight in weights]),
        narrow_bias=stack([weight["narrow.bias"][None] for weight in weights]),
        classify=stack([weight["classify.weight"].T[:, :scored] for weight in weights]),
        classify_bias=stack([weight["classify.bias"][None, :scored] for weight in weights]),
        voice=directions(bands[:, options.own], rows, length),
    )


def _train_member(normal: Tensor, rows: Rows, options: HeadOptions, seed: int) -> Member:
    torch.manual_seed(seed)
    member = Member(normal.shape[2], int(rows.emotions.max()) + 1, options)
    optimiser = torch.optim.AdamW(member.parameters(), weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=options.steps, pct_start=0.1
    )
    emotions, speakers, texts = (torch.from_numpy(each) for each in (rows.emotions, rows.speakers, rows.texts))
    said = _said(normal.mean(dim=1), emotions, texts)
    size = min(options.batch, len(normal))
    order = torch.randperm(len(normal))
    for _ in range(options.steps):
        if len(order) < size:
            order = torch.randperm(len(normal))
        chosen, order = order[:size], order[size:]
        seen = normal[chosen, torch.randint(normal.shape[1], (size,))]
        moved = (torch.rand(size, 1) < options.moved).float()
        seen = seen + moved * (said[torch.randint(len(said), (size,))] - said[texts[chosen]])
        embeddings, logits = member(seen)
        loss = functional.cross_entropy(logits, emotions[chosen], label_smoothing=options.smoothing)
        loss = loss + contrast(embeddings, emotions[chosen], speakers[chosen], options.temperature, options.own_voice)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    member.eval()
    return member


def _said(clips: Tensor, emotions: Tensor, texts: Tensor) -> Tensor:
    """What clips of each sentence have in common beside their emotions, ``(sentences, width)``; 0 for one not there."""

    def means(values: Tensor, groups: Tensor) -> Tensor:
        sums = torch.zeros(int(groups.max()) + 1, values.shape[1]).index_add_(0, groups, values)
        return sums / groups.bincount(minlength=len(sums)).clamp(min=1)[:, None]

    return means(clips - means(clips, emotions)[emotions], texts)


def contrast(embeddings: Tensor, emotions: Tensor, speakers: Tensor, temperature: float, own_voice: float) -> Tensor:
    """Supervised contrastive loss in which a pair of the same emotion and the same voice counts for nothing.

    One of the same voice and another emotion counts `own_voice` times among what a clip is to be told from.
    """
    likeness = embeddings @ embeddings.T / temperature
    same_emotion = emotions[:, None] == emotions[None]
    same_speaker = speakers[:, None] == speakers[None]
    positive = same_emotion & ~same_speaker
    weighed = likeness + math.log(own_voice) * (same_speaker & ~same_emotion)
    against = weighed.masked_fill(same_emotion & same_speaker, float("-inf")).logsumexp(dim=1, keepdim=True)
    return -(((likeness - against) * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)).mean()
