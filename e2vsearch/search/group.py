"""Groups cap how many hits share a recording, a day or a value of the metadata.

Hits over a cap are skipped and the list is filled up from further down the same ranking, so the result is the same as
walking the whole ranking from the top.
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

_FURTHER = 4  # times as many are ranked at each step


def check_groups(catalog: Catalog, limits: Mapping[str, int]) -> None:
    """See that every group is a recording, a day, or a key of the metadata that names no employees.

    Raises:
        QueryError: a name that is no key here.
        UnlawfulUse: emotion by employee, see `e2vsearch.policy`.
    """
    known = {RECORDING, DAY, *catalog.metadata_keys()}
    for name in limits:
        if name.removeprefix("meta.") not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise QueryError(f"hits cannot be grouped by {name!r}, which no recording has - {hint}")
    catalog.policy.check_employees(name for name in limits if name not in (RECORDING, DAY))


def cap_groups(catalog: Catalog, limits: Mapping[str, int], k: int, rank: Callable[[int], Ranking]) -> Ranking:
    """Return the best k of which at most so many share a value.

    Args:
        catalog: knows the recordings.
        limits: how many may share what: ``recording``, ``day``, or a key of the metadata. A recording without the key
            shares it with none.
        k: how many hits.
        rank: the best n.
    """
    recordings: dict[int, Recording] = {}
    depth = _FURTHER * k
    while True:
        ranked = rank(depth)
        recordings.update(catalog.recordings([each for each in set(ranked.recordings) if each not in recordings]))
        shared: Counter[tuple[str, str]] = Counter()
        chosen: list[int] = []
        for at, number in enumerate(ranked.recordings):
            if number not in recordings:  # removed by another process
                continue
            values = _values(recordings[number], limits)
            if all(shared[value] < limits[value[0]] for value in values):
                shared.update(values)
                chosen.append(at)
                if len(chosen) == k:
                    return ranked.take(chosen)
        if len(ranked.recordings) < depth:
            return ranked.take(chosen)
        depth *= _FURTHER


def _values(recording: Recording, limits: Mapping[str, int]) -> list[tuple[str, str]]:
    values = []
    for name in limits:
        if name == RECORDING:
            values.append((name, recording.id))
        elif name == DAY and DAY not in recording.metadata:
            values.append((name, recording.recorded_at.date().isoformat()))
        else:
            value = recording.metadata.get(name.removeprefix("meta."))
            if value is not None:
                values.append((name, value))
    return values
