"""The head that turns pooled Whisper frames into an emotion embedding. Knows features and labels, nothing of audio.

Each member is a small MLP whose output, on the unit sphere, is pulled towards the same emotion in *other* voices
(supervised contrastive loss, Khosla et al. 2020, https://arxiv.org/abs/2004.11362) and read by a linear classifier
(cross-entropy). A voice's clips of the same emotion are no positives, and its clips of other emotions are negatives,
so that likeness of voice earns nothing. Members differ by seed only; their embeddings are laid side by side.

Beside them stands, with less weight, a plain view of the features: their leading principal components. What was trained
to tell six emotions apart is blind to much that tells a seventh; the plain view is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How a head is trained; the defaults are those of the shipped weights."""

    members: int = 2
    hidden: int = 256
    dim: int = 128  # of one member
    plain_dim: int = 128  # of the plain view
    plain_weight: float = 0.5  # length of the plain view, where that of all members together is 1
    epochs: int = 40
    batch: int = 1024
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    dropout_in: float = 0.2  # of pooled features
    dropout: float = 0.5  # of hidden units
    temperature: float = 0.2  # of the contrastive loss
    smoothing: float = 0.1  # of the labels, for the classifier
    seed: int = 17  # member i trains from seed + i


@dataclass(frozen=True, slots=True)
class LightHead:
    """A trained head, ready for export: normalisation folded into its first layer, members stacked."""

    wide: NDArray[np.float32]  # (members, features, hidden)
    wide_bias: NDArray[np.float32]  # (members, 1, hidden)
    narrow: NDArray[np.float32]  # (members, hidden, dim of one)
    narrow_bias: NDArray[np.float32]  # (members, 1, dim of one)
    classify: NDArray[np.float32]  # (members, dim of one, classes)
    classify_bias: NDArray[np.float32]  # (members, 1, classes)
    plain: NDArray[np.float32]  # (features, dim of the plain view)
    plain_bias: NDArray[np.float32]  # (1, dim of the plain view)
    plain_weight: float

    @property
    def members(self) -> int:
        """How many trained embeddings lie side by side."""
        return len(self.wide)

    @property
    def dim(self) -> int:
        """Of the whole embedding."""
        return int(self.members * self.narrow.shape[2] + self.plain.shape[1])

    @property
    def lengths(self) -> tuple[np.float32, np.float32]:
        """Of one member's part and of the plain part of a unit vector."""
        whole = np.sqrt(1.0 + self.plain_weight**2)
        return np.float32(self.members**-0.5 / whole), np.float32(self.plain_weight / whole)

    @property
    def classes(self) -> int:
        """How many emotions it scores."""
        return int(self.classify.shape[2])

    def __call__(self, pooled: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Unit vectors ``(n, dim)`` and class probabilities ``(n, classes)`` of pooled features ``(n, features)``."""
        wide = functional.gelu(torch.from_numpy(pooled @ self.wide + self.wide_bias)).numpy()
        parts = wide @ self.narrow + self.narrow_bias
        parts /= np.linalg.norm(parts, axis=-1, keepdims=True)
        logits = (parts @ self.classify + self.classify_bias).mean(axis=0)
        plain = pooled @ self.plain + self.plain_bias
        plain /= np.linalg.norm(plain, axis=-1, keepdims=True)
        of_member, of_plain = self.lengths
        vectors = np.concatenate([*(parts * of_member), plain * of_plain], axis=1)
        return vectors, torch.from_numpy(logits).softmax(dim=1).numpy()


class _Member(nn.Module):  # type: ignore[misc]  # torch has no types that mypy could follow here
    def __init__(self, features: int, classes: int, options: HeadOptions) -> None:
        super().__init__()
        self.wide = nn.Linear(features, options.hidden)
        self.narrow = nn.Linear(options.hidden, options.dim)
        self.classify = nn.Linear(options.dim, classes)
        self.drop_in, self.drop = nn.Dropout(options.dropout_in), nn.Dropout(options.dropout)
        # inputs are unit vectors: from weights of about 1 / sqrt(dim) the logits would take epochs to reach any size
        nn.init.normal_(self.classify.weight, std=2.0)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.drop(functional.gelu(self.wide(self.drop_in(features))))
        embedding = functional.normalize(self.narrow(hidden), dim=1)
        return embedding, self.classify(embedding)


def train(
    features: NDArray[np.float32], emotions: NDArray[np.int64], speakers: NDArray[np.int64], options: HeadOptions
) -> LightHead:
    """A head of `options.members` members, each trained on all of ``(n, features)``.

    Args:
        features: pooled frames, not normalised; their mean and deviation become part of the head.
        emotions: class of each row, 0 to the number of classes less one.
        speakers: speaker of each row.
        options: sizes, rates and the seed; the same options on the same machine give the same head.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    normal = (features - mean) / deviation
    components = np.linalg.eigh(normal.T @ normal)[1][:, : -options.plain_dim - 1 : -1]  # the largest first
    plain = np.ascontiguousarray(components / deviation[:, None], dtype=np.float32)
    members = [
        _train_member(
            torch.from_numpy(normal),
            torch.from_numpy(emotions),
            torch.from_numpy(speakers),
            options,
            options.seed + index,
        )
        for index in range(options.members)
    ]

    def stack(arrays: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.ascontiguousarray(np.stack(arrays), dtype=np.float32)

    weights = [{name: value.detach().numpy() for name, value in member.named_parameters()} for member in members]
    wide = stack([weight["wide.weight"].T / deviation[:, None] for weight in weights])
    return LightHead(
        wide=wide,
        wide_bias=stack([weight["wide.bias"][None] for weight in weights]) - mean @ wide[:, None],
        narrow=stack([weight["narrow.weight"].T for weight in weights]),
        narrow_bias=stack([weight["narrow.bias"][None] for weight in weights]),
        classify=stack([weight["classify.weight"].T for weight in weights]),
        classify_bias=stack([weight["classify.bias"][None] for weight in weights]),
        plain=plain,
        plain_bias=-mean[None] @ plain,
        plain_weight=options.plain_weight,
    )


def _train_member(features: Tensor, emotions: Tensor, speakers: Tensor, options: HeadOptions, seed: int) -> _Member:
    torch.manual_seed(seed)
    member = _Member(features.shape[1], int(emotions.max()) + 1, options)
    optimiser = torch.optim.AdamW(member.parameters(), weight_decay=options.weight_decay)
    batches = max(1, len(features) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=options.epochs * batches, pct_start=0.1
    )
    for _ in range(options.epochs):
        order = torch.randperm(len(features))
        for rows in order[: batches * options.batch].split(options.batch):
            embeddings, logits = member(features[rows])
            loss = functional.cross_entropy(logits, emotions[rows], label_smoothing=options.smoothing)
            loss = loss + _contrast(embeddings, emotions[rows], speakers[rows], options.temperature)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    member.eval()
    return member


def _contrast(embeddings: Tensor, emotions: Tensor, speakers: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss in which a pair of the same emotion and the same voice counts for nothing."""
    likeness = embeddings @ embeddings.T / temperature
    same_emotion = emotions[:, None] == emotions[None]
    same_speaker = speakers[:, None] == speakers[None]
    positive = same_emotion & ~same_speaker
    against = likeness.masked_fill(same_emotion & same_speaker, float("-inf")).logsumexp(dim=1, keepdim=True)
    return -(((likeness - against) * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)).mean()
