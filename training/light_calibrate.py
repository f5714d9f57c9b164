"""Logits made to say how likely raters hear each class: one scale and an offset a class, cross-validated over voices.

Temperature scaling (Guo et al. 2017, https://arxiv.org/abs/1706.04599) with biases, fitted by maximum likelihood to
what most raters heard, on voices that the head scoring them has not been trained on. What the training data's class
frequencies add is taken off again, so that any prior can be put in their place.
"""

from __future__ import annotations

import numpy as np
import torch
from light_data import COPIES, Rows
from light_head import HeadOptions, train
from numpy.typing import NDArray
from torch.nn import functional

FOLDS = 3
_STEPS = 200  # of L-BFGS, which is done after some twenty


def calibration(
    features: NDArray[np.float32], rows: Rows, scored: int, options: HeadOptions
) -> tuple[float, NDArray[np.float64]]:
    """Return the scale of a head's logits, and ``(scored,)`` offsets under which all classes are equally common.

    Args:
        features: as `light_head.train` takes them.
        rows: the same; voices of the first corpus are held out in turn.
        scored: how many emotions get a score.
        options: of the heads.
    """
    first = rows.corpora == rows.corpora.min()
    known = first & (rows.most >= 0) & (rows.most < scored)
    voices = np.random.default_rng(options.seed).permutation(np.unique(rows.speakers[first]))
    logits = np.zeros((len(first), scored), np.float32)
    for held in np.array_split(voices, FOLDS):
        out = first & np.isin(rows.speakers, held)
        head = train(features[~out], rows[~out], scored, options)
        logits[out] = head(features[out, COPIES.index("clean")])[1]
    truth = rows.most[known]
    scale, offsets = _fitted(torch.from_numpy(logits[known]), torch.from_numpy(truth))
    common = np.bincount(truth, minlength=scored) / len(truth)
    return scale, offsets - np.log(np.maximum(common, 1 / len(truth)))


def _fitted(logits: torch.Tensor, truth: torch.Tensor) -> tuple[float, NDArray[np.float64]]:
    scale = torch.ones((), requires_grad=True)
    offsets = torch.zeros(logits.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([scale, offsets], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(scale * logits + offsets, truth)
        value.backward()
        return value

    optimiser.step(loss)
    return float(scale.detach()), offsets.detach().numpy().astype(np.float64)
