"""The query: what every door parses into, checked before anything is looked up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from e2vsearch.errors import QueryError

if TYPE_CHECKING:
    pass
from collections.abc import Mapping
from dataclasses import field
from math import isfinite
from typing import TYPE_CHECKING

from e2vsearch.types import By

if TYPE_CHECKING:
    pass


AudioQuery = str | os.PathLike[str] | bytes | NDArray[Any] | Sequence[float]
"""A path or ``file://`` URI of audio or of an ``.npy`` vector, ``seg:123`` or ``call:45``, ``label:hesitant`` or
``emotion:angry`` (just ``angry`` too, where there is no such file), the bytes of an audio file, 16 kHz samples, or a
vector ``(dim,)`` or vectors ``(n, dim)`` of the space."""

NamedVectorWeights = Mapping[str, float | tuple[float, str | NDArray[Any] | Sequence[float]]]
"""Weights of side vectors by name, each alone or with its reference: a vector ``(dim,)`` of that side, or ``seg:12``
for the one that this segment has. Alone, the reference is what the query's own stored segments have there.
``emotion`` is the weight of the collection's own vectors, 1 where it is not named."""

WeightedReference = AudioQuery | tuple[AudioQuery, float]
"""A reference, or one with its weight: ``("angry.wav", 2.0)``."""

Trajectory = AudioQuery | Sequence[AudioQuery]
"""A call whose course is looked for, or the stations of one: ``["neutral", "angry"]``, or ``"neutral,angry"``."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for; `Collection.query` says what each means."""

    references: tuple[WeightedReference, ...] = ()
    k: int = 20
    by: By = "call"
    where: str | None = None
    include_self: bool = False
    exact: bool = False
    text: str | None = None
    fuse: NamedVectorWeights | None = None
    but_not: Sequence[WeightedReference] = ()
    emotion: str | Mapping[str, float] | None = None
    emotion_min: float | None = None
    arc: Trajectory | None = None
    per: Mapping[str, int] = field(default_factory=dict)
    explain: bool = False

    @property
    def emotions(self) -> Mapping[str, float]:
        """Names and their weights."""
        return {self.emotion: 1.0} if isinstance(self.emotion, str) else dict(self.emotion or {})

    def check(self) -> None:
        """Whether it makes sense by itself.

        Raises:
            QueryError: it does not.
        """
        if self.k < 1:
            raise QueryError(f"k must be 1 or more, not {self.k}")
        if self.by not in ("call", "segment"):
            raise QueryError(f"hits come by call or by segment, not by {self.by!r}")
        if isinstance(self.but_not, str | os.PathLike | bytes):
            raise QueryError("what hits should not be like is a list of references, even of one")
        for name, weight in self.emotions.items():
            if not isfinite(weight):
                raise QueryError(f"the weight of {name} must be a number, not {weight}")
        if self.emotion_min is not None:
            if not 0 <= self.emotion_min <= 1:
                raise QueryError(f"an emotion's probability is between 0 and 1, not {self.emotion_min}")
            if not any(weight >= 0 for weight in self.emotions.values()):
                raise QueryError("a least probability needs the emotion it is of: name one, such as angry")
        if self.arc is not None:
            self._check_arc()
        elif not self.references and not any(weight > 0 for weight in self.emotions.values()):
            more = "; what is unwanted is only taken off" if self.but_not or self.emotions else ""
            raise QueryError(f"a query needs a reference: a clip, an .npy file, or a stored id such as seg:1{more}")

    def _check_arc(self) -> None:
        if self.by != "call":
            raise QueryError("calls have a course and segments have none: ask for an arc by call")
        others = {"references": self.references, "but_not": self.but_not, "emotion": self.emotion, "fuse": self.fuse}
        for name, value in others.items():
            if value:
                raise QueryError(f"an arc is a reference by itself: ask for it without {name.replace('_', ' ')}")
