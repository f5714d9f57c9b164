"""At most so many hits of a kind: a recording, a day, an agent. Knows rows and ranks, nothing of how they were found.

What is over is passed by, and the list is filled up from further down the same ranking, so that the answer is what
anybody would get who went through all of it from the top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from difflib import get_close_matches

from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import QueryError
from e2vsearch.search.rank import Ranking
from e2vsearch.types import Recording

RECORDING = "recording"

DAY = "day"
"""What can be limited beside the keys of the metadata; a day is that of the recording, in UTC."""

_FURTHER = 4  # times as many are ranked for each new look


def check_groups(catalog: Catalog, per: Mapping[str, int]) -> None:
    """Whether these limits can be kept.

    Raises:
        QueryError: a limit below 1, or a name that is no key here.
    """
    known = {RECORDING, DAY, *catalog.metadata_keys()}
    for name, most in per.items():
        if most < 1:
            raise QueryError(f"at most {most} hits per {name} leaves nothing: give 1 or more")
        if name.removeprefix("meta.") not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise QueryError(f"hits cannot be limited per {name!r}, which no recording has - {hint}")


def cap_groups(catalog: Catalog, per: Mapping[str, int], k: int, rank: Callable[[int], Ranking]) -> Ranking:
    """The best k of which at most so many share a value.

    Args:
        catalog: knows the recordings.
        per: how many may share what: ``recording``, ``day``, or a key of the metadata. A recording without the key
            shares it with none.
        k: how many hits.
        rank: the best n.
    """
    recordings: dict[int, Recording] = {}
    look = _FURTHER * k
    while True:
        ranked = rank(look)
        recordings.update(catalog.recordings([each for each in set(ranked.recordings) if each not in recordings]))
        shared: Counter[tuple[str, str]] = Counter()
        chosen: list[int] = []
        for at, number in enumerate(ranked.recordings):
            if number not in recordings:  # removed meanwhile
                continue
            values = _values(recordings[number], per)
            if all(shared[value] < per[value[0]] for value in values):
                shared.update(values)
                chosen.append(at)
                if len(chosen) == k:
                    return ranked.only(chosen)
        if len(ranked.recordings) < look:
            return ranked.only(chosen)
        look *= _FURTHER


def _values(recording: Recording, per: Mapping[str, int]) -> list[tuple[str, str]]:
    values = []
    for name in per:
        if name == RECORDING:
            values.append((name, recording.id))
        elif name == DAY and DAY not in recording.metadata:
            values.append((name, recording.recorded_at.date().isoformat()))
        else:
            value = recording.metadata.get(name.removeprefix("meta."))
            if value is not None:
                values.append((name, value))
    return values
