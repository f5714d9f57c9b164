"""What a question's references stand for: vectors, weights and courses. Knows names and vectors, ranks nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import Catalog
from e2vsearch.collection import targets
from e2vsearch.collection.asked import Arc, Asked, Weighed
from e2vsearch.collection.references import AudioQuery, Reference, resolve
from e2vsearch.errors import NotStored, QueryError
from e2vsearch.projections import unit

if TYPE_CHECKING:
    from e2vsearch.collection.courses import Course
    from e2vsearch.collection.mixing import Mixture
    from e2vsearch.collection.opened import Collection

UNWANTED = 0.5
"""Weight of an example of what is not wanted, unless one is given: half of its likeness is taken off."""

_NONE: NDArray[np.int64] = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Meant:
    """A query's references, resolved."""

    wanted: tuple[Reference, ...]  # their vectors, one below another, are the rows that hits are matched with
    unwanted: tuple[Reference, ...] = ()
    mixture: Mixture | None = None  # None: all of `wanted` count as one reference of all their segments
    courses: tuple[Course, ...] = ()

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Rows of all that is wanted, ``(q, dim)``."""
        return np.concatenate([reference.vectors for reference in self.wanted])

    @property
    def itself(self) -> NDArray[np.int64]:
        """Stored segments that were named themselves."""
        return np.concatenate([_NONE, *(reference.itself for reference in (*self.wanted, *self.unwanted))])


def meant(collection: Collection, asked: Asked) -> Meant:
    """What a question's references stand for.

    Raises:
        QueryError: one that cannot be asked for; NotStored for an id or name that is not there.
        AudioError, EncoderError: one that cannot be heard or encoded.
    """
    if asked.arc is not None:
        return _arc(collection, asked.arc)
    given = [_weighed(each) for each in asked.references]
    wanted = [resolve(each, collection) for each, _ in given]
    unwanted = [_weighed(each) for each in asked.but_not]
    named = {name: weight for name, weight in asked.emotions.items() if weight}
    weighed = any(weight is not None for _, weight in given)
    if not (weighed or unwanted or (named and wanted) or len(named) > 1):
        return Meant((*wanted, *(_target(collection, name) for name in named)))
    if asked.fuse:
        raise QueryError(
            "side vectors cannot be mixed with weights, several emotions or what is unwanted yet: drop one"
        )
    from e2vsearch.collection.mixing import Mixture, Part

    if weighed:
        pairs = zip(wanted, given, strict=True)
        parts = [Part(each.named, each.vectors, 1.0 if weight is None else weight) for each, (_, weight) in pairs]
    else:
        parts = [Part("", np.concatenate([each.vectors for each in wanted]), 1.0)] if wanted else []
    liked = {name: weight for name, weight in named.items() if weight > 0}
    if liked:
        mean, weight, length = _mean(collection, liked)
        wanted.append(mean)
        parts.append(Part(mean.named, mean.vectors, weight, np.array([length])))
    disliked = [(resolve(each, collection), UNWANTED if weight is None else weight) for each, weight in unwanted]
    disliked += [(_target(collection, name), -weight) for name, weight in named.items() if weight < 0]
    off = tuple(Part(each.named, each.vectors, weight) for each, weight in disliked)
    return Meant(tuple(wanted), tuple(each for each, _ in disliked), Mixture(tuple(parts), off))


def _weighed(given: Weighed) -> tuple[AudioQuery, float | None]:
    """A reference and its weight, None where none was given.

    Raises:
        QueryError: a weight that is not above 0.
    """
    pair: Any = given
    # a pair of two numbers is a vector of two dimensions
    if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Real)) or isinstance(pair[0], Real):
        return cast(AudioQuery, given), None
    weight = float(pair[1])
    if not isfinite(weight) or weight <= 0:
        raise QueryError(f"a weight is above 0, not {weight:g} - what hits should be unlike goes under but_not (--not)")
    return pair[0], weight


def _mean(collection: Collection, names: Mapping[str, float]) -> tuple[Reference, float, float]:
    """Several names as one reference, its weight, and how long the weighted mean of their unit vectors is."""
    found = [_target(collection, name) for name in names]
    weights = np.array(list(names.values()))
    mean = np.average(unit(np.concatenate([each.vectors for each in found])), axis=0, weights=weights)
    stored = np.concatenate([_NONE, *(each.itself for each in found)])
    named = " + ".join(each.named for each in found)
    return Reference(named, mean[None].astype(np.float32), stored), float(weights.sum()), float(np.linalg.norm(mean))


def _target(collection: Collection, name: str) -> Reference:
    target = targets.named(collection.catalog, known_as(collection.catalog, name), collection.lens().projection)
    return Reference(target.named, target.vector[None], target.examples)


def known_as(catalog: Catalog, name: str) -> str:
    """``angry`` → ``emotion:angry``; a label of one's own comes before an emotion of that name.

    Raises:
        NotStored: it is neither.
        QueryError: it is what stands for no emotion, "unsure" or "too short".
    """
    known = targets.known(catalog)
    kinds = (name,) if name.startswith(("emotion:", "label:")) else (f"label:{name}", f"emotion:{name}")
    for kind in kinds:
        for each in known:
            if each == kind or (each.startswith("emotion:") and each.casefold() == kind.casefold()):
                return each
    targets.refuse_nameless(name.removeprefix("emotion:"))
    raise NotStored(f"there is no emotion or label {name!r} - known: {', '.join(known) or 'none at all'}")


def _arc(collection: Collection, arc: Arc) -> Meant:
    """The courses of a call, or the one of several stations."""
    stations = _stations(arc)
    if stations is not None:
        found = _of_stations([resolve(station, collection) for station in stations])
    else:
        found = _of_recording(collection.catalog, resolve(cast(AudioQuery, arc), collection))
    if max(len(line.vectors) for line in found.courses) < 2:
        raise QueryError(
            f"{found.wanted[0].named} is a single moment, and a course has two or more - "
            "name a call, or stations such as neutral,angry"
        )
    return found


def _of_stations(references: Sequence[Reference]) -> Meant:
    from e2vsearch.collection.courses import Course

    means = [replace(each, vectors=_mean_of(each.vectors), moments=()) for each in references]
    vectors, equal = np.concatenate([each.vectors for each in means]), np.full(len(means), 1 / len(means))
    # stations say nothing of pace, so any of them may last for most of a call
    course = Course(vectors, equal, np.arange(len(means)), band=1.0)
    return Meant(tuple(means), courses=(course,))


def _mean_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = unit(vectors).mean(axis=0)[None].astype(np.float32)
    return mean


def _of_recording(catalog: Catalog, reference: Reference) -> Meant:
    from e2vsearch.collection import courses, explaining

    rows = explaining.rows_of(catalog, reference)
    order = sorted(range(len(rows)), key=lambda at: (rows[at].channel, rows[at].start_s or 0.0, at))
    channels = np.array([rows[at].channel for at in order])
    lengths = np.array([(rows[at].end_s or 1.0) - (rows[at].start_s or 0.0) for at in order])
    ordered = Reference(
        reference.named,
        reference.vectors[order],
        reference.itself[order] if len(reference.itself) == len(order) else reference.itself,
        tuple(reference.moments[at] for at in order) if reference.moments else (),
    )
    lines = [np.flatnonzero(channels == channel) for channel in np.unique(channels)]
    found = (courses.Course(ordered.vectors[at], courses.shares(lengths[at]), at) for at in lines)
    return Meant((ordered,), courses=tuple(found))


def _stations(arc: Arc) -> Sequence[AudioQuery] | None:
    """The stations of a course that is given by them, None for a recording's."""
    given: Any = arc
    if isinstance(arc, str):
        names = [name.strip() for name in arc.split(",")]
        return names if len(names) > 1 and all(names) and not Path(arc).exists() else None
    if isinstance(given, list | tuple) and not any(isinstance(each, Real | list | tuple) for each in given):
        return given or None
    return None
