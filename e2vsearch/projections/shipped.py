"""The projection that ships with an encoder: a small network, centred on the collection. Knows arrays alone.

An encoder whose vectors are what the first layer of its head says, before anything bends them, leaves the rest of the
head to the collection. Other microphones, rooms and languages shift all vectors of a collection the same way; taken
off before the head, the shift does not reach it, and taken off afterwards most of it has done its harm. `light` trained
on CREMA-D, on EMO-DB: .600 mAP without, .642 with the mean taken off in front of the head; behind it, it does not help.

Which shift it is must not depend on how much anger is in a collection: the mean of calls that are mostly neutral would
make neutral ones of all. So clips are compared class by class with those that the encoder was trained on, as far as
the head itself is sure of their class, once as it rests and once centred by that, and the shifts of all classes
averaged: .637 there. Where eight of ten of EMO-DB's clips are neutral the plain mean costs .025 mAP and the shift by
classes gains .015; where all are angry, the plain mean costs .12 and the shift gains .016.

An encoder's vectors may end in a voice part, which no head reads. By it a collection tells its voices apart, and each
has a shift beside the collection's own (`e2vsearch.projections.voices`): .642 mAP there, and hits of the same voice are
1.3 times chance, not 1.5; on voices of CREMA-D that it has not heard .662 mAP, not .596, and 1.5 times, not 2.2.

What names the emotions is the last layer of that head, so it gains by the centre as well: of EMO-DB's six classes it
names .58 rightly as the encoder does, resting, and .71 centred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import AnalysisError
from e2vsearch.projections import check, softmax, unit, voices
from e2vsearch.projections.packing import digest, pack, read
from e2vsearch.projections.voices import Voices

KIND = "shipped"
NAME = KIND
"""There is one for an encoder, so that it needs no name of its own."""

PRIOR = 60.0
"""Segments, of a class and in all, that weigh as much as nothing being shifted. EMO-DB's 535 clips gain .037 mAP so,
100 of them .021, 20 of them .007. With 20 instead, `light`'s third weights gained .002, .006 and .007 more, but a small
collection of voices that the encoder mistakes, as made ones are, is carried away by its mistakes."""

_PASSES = 2
"""Times the classes are scored and the shift taken. On EMO-DB, with the third weights of `light`, one: leak 1.58 and
.668 of six classes; two: 1.55 and .672; five: 1.53 and .681. But each pass trusts more in what the head mistakes: with
a prior of 20 instead of 60, a collection that is all anger loses .01 mAP with every one."""

_FORMAT = "shipped-3"
_HEAD = ("bias", "centre", "means", "narrow", "narrow_bias", "classes", "classes_bias", "emotion", "nuance")
_VOICES = ("aside", "places", "shifts")
_MEMBERS = (*_HEAD, *(f"voices.{name}" for name in _VOICES), "share")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Shipped:
    """A head's layers behind the first, their output and what they read side by side.

    With m members of w inputs each, v the first m w numbers of a vector, and s the share of nuance ::

        g = silu(v - centre - shift + bias)    (m w)
        e_i = unit(g_i N_i + n_i)              i = 1 … m
        (√(1-s) · unit(e E),  √s · unit(g R))  e: all e_i side by side
        softmax(mean of e_i C_i + c_i)         what it makes of the classes

    Here the length of v counts. What a vector has beyond is its voice part, and the shift that of its voice, by what
    unit(e E) is without it; where a collection's voices are not known there is none. Zeros stay zeros.
    """

    bias: NDArray[np.float32]  # (dim,)
    centre: NDArray[np.float32]  # (dim,) the collection's shift against what the encoder was trained on
    means: NDArray[np.float32]  # (c, dim) of what it was trained on, by what the encoder makes of it
    narrow: NDArray[np.float32]  # (members, dim / members, d)
    narrow_bias: NDArray[np.float32]  # (members, d)
    classes: NDArray[np.float32]  # (members, d, c)
    classes_bias: NDArray[np.float32]  # (members, c)
    emotion: NDArray[np.float32]  # (members d, e)
    nuance: NDArray[np.float32]  # (dim, r)
    voices: Voices  # of the collection, beside its centre
    share: float  # of nuance, 0 to 1

    @property
    def kind(self) -> str:
        """How it was made."""
        return KIND

    @property
    def name(self) -> str:
        """What it is called."""
        return NAME

    @property
    def revision(self) -> str:
        """A hash of what is computed."""
        return digest(_FORMAT, self._arrays)

    @property
    def dim_in(self) -> int:
        """Length of the vectors that it takes."""
        return int(self.bias.size) + self.voices.dim

    @property
    def dim_emotion(self) -> int:
        """How many of the numbers that come out, the first ones, are the emotion's part."""
        return int(self.emotion.shape[1])

    def dim_out(self, dim: int) -> int:  # noqa: ARG002 - the same, whatever is asked of
        """Length of what it makes."""
        return int(self.emotion.shape[1] + self.nuance.shape[1])

    def apply(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """``(n, dim)`` to ``(n, e + r)``, in float64 within, so that a row comes out the same beside any others.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        bent, parts = self._heard(self._seen(vectors))
        known = np.any(vectors, axis=1, keepdims=True)
        emotion = math.sqrt(1.0 - self.share) * self._said(parts)
        nuance = math.sqrt(self.share) * unit(bent @ self.nuance.astype(np.float64))
        made: NDArray[np.float32] = (np.concatenate([emotion, nuance], axis=1) * known).astype(np.float32)
        return made

    def scores(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Probabilities of the encoder's classes ``(n, c)``; resting, they are the encoder's own.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        _, parts = self._heard(self._seen(vectors))
        logits = (parts @ self.classes.astype(np.float64) + self.classes_bias[:, None]).mean(axis=0)
        return softmax(logits).astype(np.float32)

    def centred(self, vectors: NDArray[np.floating[Any]]) -> Shipped:
        """The same, centred on a collection and its voices, wherever its own centre is.

        Args:
            vectors: ``(n, dim)`` of some of its segments; those of zeros count for nothing.

        Raises:
            SpaceMismatch: vectors of another length.
        """
        check(vectors, self.dim_in, self.name)
        known = np.asarray(vectors, np.float64)[np.any(vectors, axis=1)]
        heard, everyone = known[:, : self.bias.size], np.ones((len(known), 1))
        settled = len(known) / (len(known) + PRIOR)
        nobody = voices.nobody(self.dim_emotion, self.voices.dim, self.bias.size)
        centred = replace(self, centre=np.zeros_like(self.centre), voices=nobody)
        for _ in range(_PASSES):
            sure = centred.scores(known).astype(np.float64)
            (shift,) = voices.shifts(everyone, sure, heard, self.means, PRIOR)
            centred = replace(centred, centre=(shift * settled).astype(np.float32))
        return centred._told_apart(known)

    def _told_apart(self, known: Floats) -> Shipped:
        """The same, each voice's shift beside the centre of all, as far as there are any to be told apart."""
        away, voice = self._seen(known), known[:, self.bias.size :]
        emotion = self._said(self._heard(away)[1])
        clusters = voices.found(emotion, voice)
        if clusters is None:
            return self
        found, tight = clusters
        belonging, told = found.belonging(emotion, voice), self
        for _ in range(_PASSES):
            sure = told.scores(known).astype(np.float64)
            shift = tight[:, None] * voices.shifts(belonging, sure, away, self.means, voices.PRIOR)
            told = replace(self, voices=replace(found, shifts=shift.astype(np.float32)))
        return told

    def _seen(self, vectors: NDArray[np.floating[Any]]) -> Floats:
        """What is said of emotion, less what shifts it, ``(n, dim)``."""
        check(vectors, self.dim_in, self.name)
        heard, voice = np.split(np.asarray(vectors, np.float64), [self.bias.size], axis=1)
        away = heard - self.centre.astype(np.float64)
        if len(self.voices):
            away -= self.voices.shift(self._said(self._heard(away)[1]), voice)
        return away

    def _heard(self, seen: Floats) -> tuple[Floats, Floats]:
        """Hidden units ``(n, dim)`` and what each member makes of its own, ``(members, n, d)``."""
        raised = seen + self.bias.astype(np.float64)
        bent = raised / (1.0 + np.exp(-np.maximum(raised, -500.0)))
        by_member = bent.reshape(len(bent), *self.narrow.shape[:2]).transpose(1, 0, 2)
        return bent, unit(by_member @ self.narrow.astype(np.float64) + self.narrow_bias[:, None])

    def _said(self, parts: Floats) -> Floats:
        """The emotion part ``(n, e)``, of length one."""
        said = parts.transpose(1, 0, 2).reshape(parts.shape[1], len(self.emotion))
        return unit(said @ self.emotion.astype(np.float64))

    def pack(self) -> bytes:
        """As ``.npz`` bytes: the same parameters give the same bytes."""
        return pack(dict(zip(_MEMBERS, self._arrays, strict=True)))

    @property
    def _arrays(self) -> tuple[NDArray[np.floating[Any]], ...]:
        head = (getattr(self, name) for name in _HEAD)
        known = (getattr(self.voices, name) for name in _VOICES)
        return (*head, *known, np.array([self.share], np.float32))


def unpack(data: bytes) -> Shipped:
    """The projection in ``.npz`` bytes.

    Raises:
        AnalysisError: they are something else, or shapes do not fit together.
    """
    damaged = AnalysisError(
        f"projection {NAME!r} is damaged, or of another version - ingesting anything with its encoder mends it; "
        "to do without: e2vsearch space use raw"
    )
    try:
        *head, aside, places, shifts, share = read(data, _MEMBERS)
    except ValueError as error:
        raise damaged from error
    bias, centre, means, narrow, narrow_bias, classes, classes_bias, emotion, nuance = head
    if bias.ndim != 1 or narrow.ndim != 3 or not all(each.ndim == 2 for each in (means, emotion, nuance, places)):
        raise damaged
    (dim,), (members, width, each), count = bias.shape, narrow.shape, len(means)
    found = (centre.shape, means.shape[1], members * width, narrow_bias.shape, emotion.shape[0], nuance.shape[0])
    fits = found == ((dim,), dim, dim, (members, each), members * each, dim) and share.shape == (1,)
    fits = fits and (classes.shape, classes_bias.shape) == ((members, each, count), (members, count))
    known, voice = places.shape
    fits = fits and (aside.shape, shifts.shape) == ((emotion.shape[1] + 1, voice), (known, dim))
    if not fits or not 0.0 <= share[0] <= 1.0 or not emotion.shape[1] + nuance.shape[1]:
        raise damaged
    named = dict(zip(_HEAD, head, strict=True))
    return Shipped(**named, voices=Voices(aside, places, shifts), share=float(share[0]))
