"""The query: what every door parses into, checked before anything is looked up."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from operator import index
from typing import Any, cast

from numpy.typing import NDArray

from e2vsearch.errors import QueryError
from e2vsearch.types import By, Consistency, Hit, Recording, Segment

AudioQuery = str | os.PathLike[str] | bytes | NDArray[Any] | Sequence[float] | Hit | Segment | Recording
"""A path or ``file://`` URI of audio or of an ``.npy`` vector; ``seg:123``, ``call:45``, ``emotion:angry`` or
``label:hesitant``; a `Hit`, `Segment` or `Recording`; the bytes of an audio file; 16 kHz samples; or a vector
``(dim,)`` or vectors ``(n, dim)`` of the collection's space."""


def identifier_of(source: AudioQuery) -> str | None:
    """Return the id, ``seg:123`` or ``call:45``, of a reference that is stored; None for all others."""
    if isinstance(source, Hit):
        return source.segment
    if isinstance(source, Segment | Recording):
        return source.id
    return source if isinstance(source, str) and source.startswith(("seg:", "call:")) else None


def named(source: AudioQuery) -> str:
    """Return how the audit log names a reference: an id, the name of an emotion or label, else only what it is."""
    if isinstance(source, str) and source.startswith(("emotion:", "label:")):
        return source
    of_numbers = not isinstance(source, str | os.PathLike | bytes | Hit | Segment | Recording)
    return identifier_of(source) or ("vector" if of_numbers else "clip")


LEVELS = ("fresh", "any")
"""Of consistency, beside watermarks."""

AVOID_WEIGHT = 0.5
"""Weight of a reference to avoid, unless one is given: half of its likeness is taken off."""

Trajectory = AudioQuery | Sequence[AudioQuery]
"""A recording, or two or more references that follow one another; as one string, names of emotions or labels:
``"neutral,angry"``."""

NamedVectorWeight = float | tuple[float, str | NDArray[Any] | Sequence[float] | None]
"""The weight of a set of named vectors; with the vector, or the stored segment's id, that its vectors are compared
with, by default what the references' own segments have there."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An example of what to find, or to avoid, with its weight.

    Attributes:
        source: what the example is, see `AudioQuery`.
        weight: above 0. Of references to find, weights are relative to one another; None counts all segments of the
            unweighted references as one reference. Of references to avoid it is absolute, `AVOID_WEIGHT` by default.

    Raises:
        QueryError: a weight that is not a number above 0.
    """

    source: AudioQuery
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not (isfinite(self.weight) and self.weight > 0):
            raise QueryError(f"a weight is above 0, not {self.weight:g} - put what hits should be unlike under avoid")

    @classmethod
    def of(cls, given: AudioQuery | Reference) -> Reference:
        """Return `given` if it is a reference already, else the reference to it."""
        return given if isinstance(given, Reference) else cls(given)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a collection. Every door, from the command line to a retriever, parses into one.

    Attributes:
        references: examples of what to find, see `Reference`; several without weights count as one reference of all
            their segments, with weights the score is the weighted mean of each. Without any, `where` and `text` find
            what meets them, the newest recordings first, and hits have no score.
        k: how many hits, at least 1.
        by: ``recording``, each hit with its best segment, or ``segment``.
        where: a filter, such as ``queue = "billing" and channel = 1``, see `e2vsearch.catalog.filters`.
        text: words that must be said in the segment, see `e2vsearch.catalog.text_search`: ``refund``,
            ``"credit card"``, ``refund*``, ``-thanks``.
        avoid: examples that hits should be unlike; weight · max(0, cosine) is taken off, see `e2vsearch.search.score`.
        emotion: an emotion or a label of one's own as one more reference, or several in one mixture by weight:
            ``{"frustrated": 1, "shouting": -0.5}``. A weight below 0 is taken off as `avoid` is; one of 0 only names
            what `min_probability` is of.
        min_probability: the least probability, 0 to 1, in a segment of each of these emotions whose weight is not
            below 0.
        trajectory: find recordings whose emotion changes over time in the same way, see `Trajectory` and
            `e2vsearch.search.trajectory`. It takes no other reference.
        group_by: ``recording``, ``day``, or keys of the metadata: at most `group_size` hits share one value of each;
            the list is filled up from further down the ranking.
        group_size: one limit for all of `group_by`, or one each.
        named_vectors: weights of other models' vectors in the score, by name, see `NamedVectorWeight`; ``emotion`` is
            the collection's own, 1.0 by default. Every segment is compared then.
        explain: say of each hit why it is one (`Hit.why`), and what percentage of random pairs here are less alike.
        exact: compare every segment, whatever index there is.
        include_self: keep stored segments that are themselves the reference.
        consistency: what an engine other than FAISS, which is always fresh, must take account of: ``fresh``, everything
            that was committed; a number, as `Index.watermark` returned it, everything up to then; ``any``, what the
            engine has read so far, which saves reading the change feed.

    Raises:
        QueryError: it makes no sense by itself.

    Example:
        >>> Query(("angry.wav",), k=5).references
        (Reference(source='angry.wav', weight=None),)
        >>> Query(("seg:1",), k=0)
        Traceback (most recent call last):
        e2vsearch.errors.QueryError: k must be 1 or more, not 0
    """

    references: tuple[Reference, ...] = ()
    k: int = 20
    by: By = "recording"
    where: str | None = None
    text: str | None = None
    avoid: tuple[Reference, ...] = ()
    emotion: str | Mapping[str, float] | None = None
    min_probability: float | None = None
    trajectory: Trajectory | None = None
    group_by: tuple[str, ...] = ()
    group_size: int | tuple[int, ...] = 1
    named_vectors: Mapping[str, NamedVectorWeight] | None = None
    explain: bool = False
    exact: bool = False
    include_self: bool = False
    consistency: Consistency = "fresh"

    def __post_init__(self) -> None:
        for name in ("references", "avoid"):
            given = getattr(self, name)
            if isinstance(given, str | os.PathLike | bytes):
                raise QueryError(f"{name} is a list of references, even of one")
            object.__setattr__(self, name, tuple(Reference.of(each) for each in given))
        groups: Any = self.group_by
        group_by = (groups,) if isinstance(groups, str) else tuple(groups)
        object.__setattr__(self, "group_by", group_by)
        self._check()

    @classmethod
    def of(cls, *references: AudioQuery | Reference | Query, **given: Any) -> Query:
        """Return the query that is given itself, or build one of references and fields.

        Raises:
            QueryError: it makes no sense by itself.
            TypeError: a field that there is not, or fields beside a query.
        """
        if len(references) == 1 and isinstance(references[0], Query):
            if given:
                raise TypeError("a Query takes no further fields: use dataclasses.replace")
            return references[0]
        unknown = set(given) - {each.name for each in fields(cls)} | set(given) & {"references"}
        if unknown:
            raise TypeError(f"a query has no field {', '.join(sorted(unknown))}")
        return cls(cast("tuple[Reference, ...]", references), **given)

    @property
    def browses(self) -> bool:
        """Whether there is nothing to compare with, so that what meets the filter is listed."""
        return self.trajectory is None and not self.references and not any(w > 0 for w in self.emotions.values())

    @property
    def emotions(self) -> Mapping[str, float]:
        """Names of emotions and labels, and their weights."""
        return {self.emotion: 1.0} if isinstance(self.emotion, str) else dict(self.emotion or {})

    @property
    def group_limits(self) -> Mapping[str, int]:
        """The most hits that may share one value, by what they share."""
        sizes = (self.group_size,) * len(self.group_by) if isinstance(self.group_size, int) else self.group_size
        return dict(zip(self.group_by, sizes, strict=True))

    def summary(self) -> dict[str, Any]:
        """Return what the audit log keeps: no audio, no vectors, no paths; fields that are not given are left out."""
        given: dict[str, Any] = {
            "references": [named(each.source) for each in self.references],
            "avoid": [named(each.source) for each in self.avoid],
            "emotion": self.emotions,
            "trajectory": None if self.trajectory is None else _named_trajectory(self.trajectory),
            "named_vectors": sorted(self.named_vectors or ()),
        }
        given |= {name: getattr(self, name) for name in ("where", "text", "min_probability", "group_limits")}
        return {"k": self.k, "by": self.by} | {name: value for name, value in given.items() if value or value == 0}

    def _check(self) -> None:
        self._check_types()
        if self.k < 1:
            raise QueryError(f"k must be 1 or more, not {self.k}")
        if self.by not in ("recording", "segment"):
            raise QueryError(f"hits come by recording or by segment, not by {self.by!r}")
        if isinstance(self.consistency, bool) or not (isinstance(self.consistency, int) or self.consistency in LEVELS):
            raise QueryError(f"consistency is fresh, any, or a watermark, a whole number, not {self.consistency!r}")
        if not isinstance(self.group_size, int) and len(self.group_size) != len(self.group_by):
            raise QueryError(f"{len(self.group_by)} groups have {len(self.group_size)} sizes: give one, or one each")
        for name, size in self.group_limits.items():
            if size < 1:
                raise QueryError(f"at most {size} hits per {name} leaves nothing: give 1 or more")
        for name, weight in self.emotions.items():
            if not isfinite(weight):
                raise QueryError(f"the weight of {name} must be a number, not {weight}")
        if self.min_probability is not None:
            if not 0 <= self.min_probability <= 1:
                raise QueryError(f"an emotion's probability is between 0 and 1, not {self.min_probability}")
            if not any(weight >= 0 for weight in self.emotions.values()):
                raise QueryError("a least probability needs the emotion it is of: name one, such as angry")
        if self.trajectory is not None:
            self._check_trajectory()
        elif self.browses:
            self._check_browsing()

    def _check_types(self) -> None:
        """Refuse what a script may hand over, and no other door: Python checks no types by itself."""
        given: Any = self.k
        try:
            object.__setattr__(self, "k", index(given))
        except TypeError:
            raise QueryError(f"k is a whole number, not {given!r}") from None
        for name, example in (("where", "queue = billing"), ("text", "money back")):
            given = getattr(self, name)
            if not isinstance(given, str | None):
                raise QueryError(f"{name} is a text such as {example!r}, not {type(given).__name__}")

    def _check_browsing(self) -> None:
        compared = [name for name in ("avoid", "emotion", "named_vectors", "explain") if getattr(self, name)]
        if self.where is None and self.text is None:
            more = "; what is to be avoided is only taken off" if self.avoid or self.emotions else ""
            raise QueryError(
                f"a query needs a reference: a clip, an .npy file, or a stored id such as seg:1{more}; or else a "
                "filter or words, to list what meets them"
            )
        if compared:
            raise QueryError(
                f"{compared[0].replace('_', ' ')} goes with a reference, which hits are compared with: name a clip or "
                "an id such as seg:1, or leave it out to list what meets the filter"
            )

    def _check_trajectory(self) -> None:
        if self.by != "recording":
            raise QueryError("recordings have a trajectory and segments have none: ask for it by recording")
        for name in ("references", "avoid", "emotion", "named_vectors"):
            if getattr(self, name):
                raise QueryError(f"a trajectory is a reference by itself: ask for it without {name.replace('_', ' ')}")


def _named_trajectory(trajectory: Trajectory) -> str | list[str]:
    if isinstance(trajectory, list | tuple):
        return [named(each) for each in cast("Sequence[AudioQuery]", trajectory)]
    names = isinstance(trajectory, str) and re.fullmatch(r"[\w -]+(,[\w -]+)+", trajectory)
    return cast("str", trajectory) if names else named(cast("AudioQuery", trajectory))
