"""Results that call their references as whoever asked does: paths on a server are nobody else's. Knows names only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from e2vsearch.types import Match, QueryResult


def with_reference_names(result: QueryResult, names: Mapping[str, str]) -> QueryResult:
    """A result that calls files as the client does, wherever it names a reference.

    Args:
        result: as the collection gives it.
        names: what the client calls each path.
    """

    def new(named: str) -> str:
        return names.get(named, named)

    def matches(given: Sequence[Match]) -> tuple[Match, ...]:
        return tuple(replace(each, reference=new(each.reference)) for each in given)

    hits = []
    for hit in result.hits:
        why = hit.why
        if why is not None:
            against = tuple(replace(each, reference=new(each.reference)) for each in why.against)
            why = replace(why, matches=matches(why.matches), against=against)
        hits.append(replace(hit, course=matches(hit.course), why=why))
    reference, but_not = tuple(map(new, result.reference)), tuple(map(new, result.but_not))
    return replace(result, hits=tuple(hits), reference=reference, but_not=but_not)
