"""The head that turns pooled Whisper frames into an emotion embedding, from features and labels.

Each member is a small MLP whose output, on the unit sphere, is pulled towards the same label in *other* voices
(supervised contrastive loss, Khosla et al. 2020, https://arxiv.org/abs/2004.11362) and read by a linear classifier
(cross-entropy). A voice's clips of the same label are no positives, and its clips of other labels are negatives, so
that likeness of voice earns nothing. Every other member learns what was acted, the rest what raters heard, each clip
counting by how many of them heard it. Members' embeddings are laid side by side. What their first layers keep of the
voice, and the picture's bands predict, is taken off (`light_voice.shift`).

Half of the clips in a batch are moved to another sentence of their corpus: what clips of their own sentence have in
common is taken off and what those of another have is put on, as far as the label does not account for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from light_data import COPIES, Rows
from light_voice import BANDS, VoicePart, directions, shift
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from e2vsearch.projections.network import NetworkProjection
from e2vsearch.projections.speakers import no_speakers

EMOTION_DIMS = 128
"""Of a projected vector. The members' 512 numbers have over 99 % of their squares in so many directions."""

NUANCE_DIMS = 128

VOICE_SHARE = 1e-4
"""Of the squares of a vector, so that a cosine of the encoder's own vectors has next to nothing of it."""

_OWN = (COPIES.index("clean"), COPIES.index("telephone"))  # copies that leave a voice as it is


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How a head is trained; the defaults are those of the shipped weights."""

    members: int = 4  # in turns of what was acted and of what was heard
    hidden: int = 128
    dim: int = 128  # of one member
    steps: int = 130
    batch: int = 512
    second_share: float = 1 / 3  # of each batch, from the corpora after the first
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    dropout_in: float = 0.2  # of pooled features
    dropout: float = 0.5  # of hidden units
    temperature: float = 0.2  # of the contrastive loss
    smoothing: float = 0.1  # of the labels, for the classifier
    moved: float = 0.5  # share of clips that are moved to another sentence
    own_voice: float = 300.0  # how often a clip of its own voice and another label counts against one
    ridge: float = 0.03  # of the regression on the bands, as a share of what they vary
    seed: int = 17  # member i trains from seed + i


@dataclass(frozen=True, slots=True)
class LightHead:
    """A trained head, ready for export: normalisation folded into its first layer, members stacked.

    The encoder's vectors are the first layers' outputs less their bias: linear in pooled frames, and zero at the mean
    of the training data. So a collection's own centre can be taken off them before the nonlinearity. The voice part
    comes last.
    """

    wide: NDArray[np.float32]  # (members, features and the bands' deviations, hidden)
    offset: NDArray[np.float32]  # (members, 1, hidden): minus the mean of the training features, through `wide`
    bias: NDArray[np.float32]  # (members, 1, hidden)
    narrow: NDArray[np.float32]  # (members, hidden, dim of one)
    narrow_bias: NDArray[np.float32]  # (members, 1, dim of one)
    classify: NDArray[np.float32]  # (members, dim of one, classes)
    classify_bias: NDArray[np.float32]  # (members, 1, classes)
    voice: VoicePart

    @property
    def width(self) -> int:
        """Numbers of a vector that come from the first layers."""
        return int(self.wide.shape[0] * self.wide.shape[2])

    @property
    def dim(self) -> int:
        """Of the encoder's vectors."""
        return self.width + self.voice.dim

    @property
    def classes(self) -> int:
        """How many emotions it scores."""
        return int(self.classify.shape[2])

    def __call__(self, pooled: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors ``(n, dim)`` and logits ``(n, classes)`` of pooled features ``(n, features)``."""
        frames, means, deviations = np.split(pooled, [pooled.shape[1] - 2 * BANDS, pooled.shape[1] - BANDS], axis=1)
        first = np.concatenate([frames, deviations], axis=1) @ self.wide + self.offset
        wide = functional.silu(torch.from_numpy(first + self.bias)).numpy()
        parts = wide @ self.narrow + self.narrow_bias
        parts /= np.linalg.norm(parts, axis=-1, keepdims=True)
        logits = (parts @ self.classify + self.classify_bias).mean(axis=0)
        return np.concatenate([*first, self.voice(np.concatenate([means, deviations], axis=1))], axis=1), logits

    def calibrated(self, scale: float, offsets: NDArray[np.floating]) -> LightHead:
        """Return the same with its logits times `scale`, and ``(classes,)`` offsets added."""
        classify = (self.classify * scale).astype(np.float32)
        return replace(self, classify=classify, classify_bias=(self.classify_bias * scale + offsets).astype(np.float32))

    def projection(self, pooled: NDArray[np.float32], prior: NDArray[np.floating], share: float) -> NetworkProjection:
        """Return what the encoder ships to compare its vectors by, at rest: centred on its training data.

        Args:
            pooled: ``(n, features)`` of clips as they are: where each class lies, and in which directions vectors
                vary at all.
            prior: ``(classes,)`` that its logits have.
            share: of nuance, the first layers' outputs.
        """
        vectors, logits = self(pooled)
        scores = torch.from_numpy(logits - np.log(prior, dtype=np.float32)).softmax(dim=1).numpy()
        full = NetworkProjection(
            bias=self.bias.reshape(-1),
            centre=np.zeros(self.width, np.float32),
            means=(scores.T @ vectors[:, : self.width]) / scores.sum(axis=0)[:, None],
            narrow=self.narrow,
            narrow_bias=self.narrow_bias[:, 0],
            classes=self.classify,
            classes_bias=(self.classify_bias[:, 0] - np.log(prior)).astype(np.float32),
            anchor=prior.astype(np.float32),
            prior=prior.astype(np.float32),
            emotion=np.eye(self.narrow.shape[0] * self.narrow.shape[2], dtype=np.float32),
            nuance=np.eye(self.width, dtype=np.float32),
            speakers=no_speakers(self.narrow.shape[0] * self.narrow.shape[2], self.voice.dim, self.width),
            share=0.5,
        )
        emotions, nuances = np.split(full.apply(vectors), [full.dim_emotion], axis=1)
        emotion, nuance = _directions(emotions, EMOTION_DIMS), _directions(nuances, NUANCE_DIMS)
        known = no_speakers(EMOTION_DIMS, self.voice.dim, self.width)
        return replace(full, emotion=emotion, nuance=nuance, speakers=known, share=share)


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
        """Return unit vectors and logits of normalised features."""
        hidden = self.drop(functional.silu(self.wide(self.drop_in(features))))
        embedding = functional.normalize(self.narrow(hidden), dim=1)
        return embedding, self.classify(embedding)


def train(features: NDArray[np.float32], rows: Rows, scored: int, options: HeadOptions) -> LightHead:
    """Train a head of `options.members` members, each trained on all clips, any copy of one at a time.

    Args:
        features: ``(n, copies, width)`` pooled frames, not normalised; mean and deviation become part of the head. The
            last 160 are means and deviations of the picture's bands, from which the voice is told.
        rows: labels, weights, speakers, sentences and corpora of the n clips.
        scored: how many emotions get a score; those from there on shape the embedding alone.
        options: sizes, rates and the seed; the same options on the same machine give the same head.
    """
    frames, bands = np.split(features, [features.shape[2] - 2 * BANDS], axis=2)
    flat = frames.reshape(-1, frames.shape[2])
    mean, deviation = flat.mean(axis=0), flat.std(axis=0) + 1e-6
    normal = torch.from_numpy((frames - mean) / deviation)
    members = [_train_member(normal, rows, options, index) for index in range(options.members)]

    def stack(arrays: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.ascontiguousarray(np.stack(arrays), dtype=np.float32)

    weights = [{name: value.detach().numpy() for name, value in member.named_parameters()} for member in members]
    wide = stack([weight["wide.weight"].T / deviation[:, None] for weight in weights])
    wide = wide.astype(np.float16).astype(np.float32)  # as it ships: half of 2 MB
    offset = -mean @ wide[:, None]
    first = np.concatenate([*(frames[:, _OWN] @ wide[:, None] + offset[:, None])], axis=2)
    slope, level = shift(first, bands[:, _OWN, BANDS:], rows, options.ridge)
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
        voice=directions(bands[:, _OWN], rows, length),
    )


def _train_member(normal: Tensor, rows: Rows, options: HeadOptions, index: int) -> Member:
    torch.manual_seed(options.seed + index)
    labels, weights = (torch.from_numpy(each) for each in rows.labels(as_heard=index % 2 == 1))
    speakers = torch.from_numpy(rows.speakers)
    texts = torch.from_numpy(np.unique(rows.texts, return_inverse=True)[1])
    member = Member(normal.shape[2], int(max(rows.acted.max(), rows.heard.max())) + 1, options)
    optimiser = torch.optim.AdamW(member.parameters(), weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=options.steps, pct_start=0.1
    )
    common = _of_sentences(normal.mean(dim=1), labels, texts)
    for (chosen, other), _ in zip(_batches(rows, texts, options), range(options.steps), strict=False):
        seen = normal[chosen, torch.randint(normal.shape[1], chosen.shape)]
        moved = (torch.rand(len(chosen), 1) < options.moved).float()
        seen = seen + moved * (common[other] - common[texts[chosen]])
        embeddings, logits = member(seen)
        loss = loss_of(embeddings, logits, labels[chosen], weights[chosen], speakers[chosen], options)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    member.eval()
    return member


def _batches(rows: Rows, texts: Tensor, options: HeadOptions) -> Iterator[tuple[Tensor, Tensor]]:
    """Clips, the share of the later corpora drawn again and again, and for each another sentence of its corpus."""
    corpora = [torch.from_numpy(np.flatnonzero(rows.corpora == each)) for each in np.unique(rows.corpora)]
    sentences = [texts[own].unique() for own in corpora]
    size = min(options.batch, len(rows.corpora))
    later = round(size * options.second_share / max(len(corpora) - 1, 1))
    sizes = [size - later * (len(corpora) - 1), *[later] * (len(corpora) - 1)]
    orders = [torch.empty(0, dtype=torch.int64) for _ in corpora]
    while True:
        chosen, others = [], []
        for at, (own, count) in enumerate(zip(corpora, sizes, strict=True)):
            while len(orders[at]) < count:
                orders[at] = torch.cat([orders[at], own[torch.randperm(len(own))]])
            chosen.append(orders[at][:count])
            orders[at] = orders[at][count:]
            others.append(sentences[at][torch.randint(len(sentences[at]), (count,))])
        yield torch.cat(chosen), torch.cat(others)


def _of_sentences(clips: Tensor, labels: Tensor, texts: Tensor) -> Tensor:
    """Return what clips of each sentence have in common beside their labels, ``(sentences, width)``."""

    def means(values: Tensor, groups: Tensor) -> Tensor:
        sums = torch.zeros(int(groups.max()) + 1, values.shape[1]).index_add_(0, groups, values)
        return sums / groups.bincount(minlength=len(sums)).clamp(min=1)[:, None]

    return means(clips - means(clips, labels)[labels], texts)


def loss_of(
    embeddings: Tensor, logits: Tensor, labels: Tensor, weights: Tensor, speakers: Tensor, options: HeadOptions
) -> Tensor:
    """Cross-entropy and supervised contrast of one batch, each clip counting by its weight."""
    each = functional.cross_entropy(logits, labels, label_smoothing=options.smoothing, reduction="none")
    each = each + contrast(embeddings, labels, speakers, weights, options.temperature, options.own_voice)
    return (weights * each).sum() / weights.sum()


def contrast(
    embeddings: Tensor, labels: Tensor, speakers: Tensor, weights: Tensor, temperature: float, own_voice: float
) -> Tensor:
    """Supervised contrastive loss ``(n,)`` in which a pair of the same label and the same voice counts for nothing.

    A positive counts by its weight. One of the same voice and another label counts `own_voice` times among what a
    clip is to be told from.
    """
    likeness = embeddings @ embeddings.T / temperature
    same_label = labels[:, None] == labels[None]
    same_speaker = speakers[:, None] == speakers[None]
    positive = (same_label & ~same_speaker) * weights
    weighed = likeness + math.log(own_voice) * (same_speaker & ~same_label)
    against = weighed.masked_fill(same_label & same_speaker, float("-inf")).logsumexp(dim=1, keepdim=True)
    return -((likeness - against) * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1e-6)
