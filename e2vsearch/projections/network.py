"""The projection that ships with an encoder: a small network, centred on the collection.

An encoder whose vectors are the activations of its head's first layer, before the nonlinearity, leaves the rest of the
head to the collection. Other microphones, rooms and languages shift all vectors of a collection the same way; the shift
is subtracted before the head. `light`, which was not trained on EMO-DB, there: .599 mAP without, .652 with it.

The shift must not depend on a collection's mix of emotions: the mean of mostly neutral calls would make all neutral. So
segments are compared class by class with the training data, weighted by the head's posteriors, once uncentred and once
centred by that, and the shifts of all classes averaged. Fitted on anger alone it is .636 there, on eight of ten neutral
.640.

Vectors may end in a voice part, which no head reads. A collection clusters its speakers by it, and each has a shift
beside the collection's own, as far as it has several emotions (`speakers`): on unseen speakers of CREMA-D .588 mAP, not
.548, and hits of the same speaker are 1.6 times chance, not 2.2.

The last layer gives class probabilities, which gain by the centre as well. They are under a prior: an anchor before the
collection is centred, then adapted to it (`e2vsearch.projections.prior`). Figures are from training/README.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import AnalysisError
from e2vsearch.projections import speakers
from e2vsearch.projections.base import softmax
from e2vsearch.projections.npz import digest, pack, read
from e2vsearch.projections.prior import adapt_prior, with_prior
from e2vsearch.projections.speakers import Speakers
from e2vsearch.vectors.exact import Float64s, check_dim, unit

KIND = "shipped"
NAME = KIND
"""One for an encoder, so that it needs no name of its own."""

PRIOR = 60.0
"""Segments, of a class and in all, that weigh as much as a shift of zero. EMO-DB's 535 clips gain .037 mAP so,
100 of them .021, 20 of them .007. With 20 instead, `light`'s third weights gained .002, .006 and .007 more, but a small
collection of speakers that the encoder misclassifies, as synthetic ones are, is shifted by its errors."""

_PASSES = 2
"""Of scoring the classes and estimating the shift. On EMO-DB, with the third weights of `light`, one: leak 1.58 and
.668 of six classes; two: 1.55 and .672; five: 1.53 and .681. But each pass relies more on the head's errors: with
a prior of 20 instead of 60, a collection that is all anger loses .01 mAP with every one."""

ANCHORED = 300
"""Segments that the anchor of the class prior weighs, or as many as there are: on unseen speakers of CREMA-D the
calibration error against raters is .035 so (benchmarks/names.py)."""

_FORMAT = "shipped-4"

_HEAD = (
    *("bias", "centre", "means", "narrow", "narrow_bias", "classes", "classes_bias", "anchor", "prior"),
    *("emotion", "nuance"),
)

_SPEAKERS = ("regression", "centroids", "shifts")
_MEMBERS = (*_HEAD, "voices.aside", "voices.places", "voices.shifts", "share")  # names in the bytes


@dataclass(frozen=True, slots=True, eq=False)
class NetworkProjection:
    """A head's layers after the first, their embedding and the first layers' outputs side by side.

    With m members of w inputs each, v the first m w numbers of a vector, and s the share of nuance ::

        c = v - centre - shift                 (m w)
        g = silu(c + bias)                     (m w)
        e_i = unit(g_i N_i + n_i)              i = 1 … m
        (√(1-s) · unit(e E),  √s · unit(c R))  e: all e_i side by side
        softmax(mean of e_i C_i + c_i + log prior)  probabilities of the classes

    The length of v counts. What a vector has beyond is its voice part, and the shift that of its speaker, with
    unit(e E) computed without it; where a collection's speakers are not clustered there is none. Zeros stay zeros.
    """

    bias: NDArray[np.float32]  # (dim,)
    centre: NDArray[np.float32]  # (dim,) the collection's shift against what the encoder was trained on
    means: NDArray[np.float32]  # (c, dim) of the classes in the training data, by the encoder's posteriors
    narrow: NDArray[np.float32]  # (members, dim / members, d)
    narrow_bias: NDArray[np.float32]  # (members, d)
    classes: NDArray[np.float32]  # (members, d, c)
    classes_bias: NDArray[np.float32]  # (members, c), under a uniform prior
    anchor: NDArray[np.float32]  # (c,) prior of the classes without a collection, summing to one
    prior: NDArray[np.float32]  # (c,) prior in the collection
    emotion: NDArray[np.float32]  # (members d, e)
    nuance: NDArray[np.float32]  # (dim, r)
    speakers: Speakers  # of the collection, beside its centre
    share: float  # of nuance, 0 to 1

    @property
    def kind(self) -> str:
        """The kind of projection."""
        return KIND

    @property
    def name(self) -> str:
        """The name."""
        return NAME

    @property
    def revision(self) -> str:
        """A hash of all parameters."""
        return digest(_FORMAT, self._arrays)

    @property
    def dim_in(self) -> int:
        """Length of the vectors that it takes."""
        return int(self.bias.size) + int(self.speakers.centroids.shape[1])

    @property
    def dim_emotion(self) -> int:
        """How many of the output's first numbers are the emotion part."""
        return int(self.emotion.shape[1])

    def dim_out(self, dim: int) -> int:  # noqa: ARG002
        """Return the length of projected vectors."""
        return int(self.emotion.shape[1] + self.nuance.shape[1])

    def apply(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Map ``(n, dim)`` to ``(n, e + r)``, in float64 within, so that each row is independent of the others.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        known = np.any(vectors, axis=1, keepdims=True)
        shifted = self._shifted(vectors)
        emotion = math.sqrt(1.0 - self.share) * self._embedded(self._parts(shifted))
        nuance = math.sqrt(self.share) * unit(shifted @ self.nuance.astype(np.float64))
        made: NDArray[np.float32] = (np.concatenate([emotion, nuance], axis=1) * known).astype(np.float32)
        return made

    def scores(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return class probabilities ``(n, c)`` under the collection's prior; uncentred, they are the encoder's.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        return with_prior(self.posteriors(vectors), self.prior).astype(np.float32)

    def posteriors(self, vectors: NDArray[np.floating[Any]]) -> Float64s:
        """Return class probabilities ``(n, c)`` under a uniform prior.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        parts = self._parts(self._shifted(vectors))
        return softmax((parts @ self.classes.astype(np.float64) + self.classes_bias[:, None]).mean(axis=0))

    def centred(self, vectors: NDArray[np.floating[Any]]) -> NetworkProjection:
        """Return the projection centred on a collection and its speakers, with its prior adapted.

        Its present centre does not matter.

        Args:
            vectors: ``(n, dim)`` of segments; those of zeros count for nothing.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        check_dim(vectors, self.dim_in, f"projection {self.name!r}")
        known = np.asarray(vectors, np.float64)[np.any(vectors, axis=1)]
        activations, everyone = known[:, : self.bias.size], np.ones((len(known), 1))
        weight = len(known) / (len(known) + PRIOR)
        none = speakers.no_speakers(self.dim_emotion, self.dim_in - self.bias.size, self.bias.size)
        centred = replace(self, centre=np.zeros_like(self.centre), speakers=none)
        for _ in range(_PASSES):
            (shift,) = speakers.class_shifts(everyone, centred.posteriors(known), activations, self.means, PRIOR)
            centred = replace(centred, centre=(shift * weight).astype(np.float32))
        centred = centred._with_speakers(known)
        prior = adapt_prior(centred.posteriors(known), self.anchor, max(ANCHORED, len(known)))
        return replace(centred, prior=prior.astype(np.float32))

    def _with_speakers(self, known: Float64s) -> NetworkProjection:
        """Return the projection with a shift for each cluster of speakers, if there are any."""
        away, voice = self._shifted(known), known[:, self.bias.size :]
        emotion = self._embedded(self._parts(away))
        found = speakers.cluster_speakers(emotion, voice)
        if found is None:
            return self
        clusters, tightness = found
        membership, shifted = clusters.membership(emotion, voice), self
        for _ in range(_PASSES):
            posteriors = shifted.posteriors(known)
            weights = tightness * speakers.emotional_variety(membership, posteriors)
            shifts = speakers.class_shifts(membership, posteriors, away, self.means, speakers.PRIOR)
            weighted = (weights[:, None] * shifts).astype(np.float32)
            shifted = replace(self, speakers=replace(clusters, shifts=weighted))
        return shifted

    def _shifted(self, vectors: NDArray[np.floating[Any]]) -> Float64s:
        """Return the first layers' activations ``(n, dim)`` less the shifts of collection and speakers."""
        check_dim(vectors, self.dim_in, f"projection {self.name!r}")
        first, voice = np.split(np.asarray(vectors, np.float64), [self.bias.size], axis=1)
        away = first - self.centre.astype(np.float64)
        if self.speakers.centroids.size:
            away -= self.speakers.shift(self._embedded(self._parts(away)), voice)
        return away

    def _parts(self, shifted: Float64s) -> Float64s:
        """Return each member's output ``(members, n, d)``, of length one."""
        biased = shifted + self.bias.astype(np.float64)
        silu = biased / (1.0 + np.exp(-np.maximum(biased, -500.0)))
        by_member = silu.reshape(len(silu), *self.narrow.shape[:2]).transpose(1, 0, 2)
        return unit(by_member @ self.narrow.astype(np.float64) + self.narrow_bias[:, None])

    def _embedded(self, parts: Float64s) -> Float64s:
        """Return the embedding ``(n, e)``, of length one."""
        joined = parts.transpose(1, 0, 2).reshape(parts.shape[1], len(self.emotion))
        return unit(joined @ self.emotion.astype(np.float64))

    def pack(self) -> bytes:
        """Return the projection as ``.npz`` bytes: the same parameters give the same bytes."""
        return pack(dict(zip(_MEMBERS, self._arrays, strict=True)))

    @property
    def _arrays(self) -> tuple[NDArray[np.floating[Any]], ...]:
        head = (getattr(self, name) for name in _HEAD)
        speakers_ = (getattr(self.speakers, name) for name in _SPEAKERS)
        return (*head, *speakers_, np.array([self.share], np.float32))


def unpack(data: bytes) -> NetworkProjection:
    """Return the projection in ``.npz`` bytes.

    Raises:
        AnalysisError: the bytes are damaged or of an earlier format.
    """
    damaged = AnalysisError(
        f"projection {NAME!r} is damaged, which ingesting anything with its encoder mends, or an earlier version's - "
        "then search raw vectors: e2vsearch projection use raw, or ingest into a new collection"
    )
    try:
        *head, regression, centroids, shifts, share = read(data, _MEMBERS)
    except ValueError as error:
        raise damaged from error
    bias, centre, means, narrow, narrow_bias, classes, classes_bias, anchor, prior, emotion, nuance = head
    if bias.ndim != 1 or narrow.ndim != 3 or not all(each.ndim == 2 for each in (means, emotion, nuance, centroids)):
        raise damaged
    (dim,), (members, width, each), count = bias.shape, narrow.shape, len(means)
    found = (centre.shape, means.shape[1], members * width, narrow_bias.shape, emotion.shape[0], nuance.shape[0])
    fits = found == ((dim,), dim, dim, (members, each), members * each, dim) and emotion.shape[1] > 0
    fits = fits and share.shape == (1,) and 0.0 <= share[0] <= 1.0
    fits = fits and (classes.shape, classes_bias.shape) == ((members, each, count), (members, count))
    fits = fits and all(each.shape == (count,) and each.min() > 0 for each in (anchor, prior))
    known, voice = centroids.shape
    fits = fits and (regression.shape, shifts.shape) == ((emotion.shape[1] + 1, voice), (known, dim))
    if not fits:
        raise damaged
    named = dict(zip(_HEAD, head, strict=True))
    return NetworkProjection(**named, speakers=Speakers(regression, centroids, shifts), share=float(share[0]))
