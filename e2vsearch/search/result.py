"""What a query returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from e2vsearch.listing import Listing
from e2vsearch.types import Hit, Match


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class QueryResult(Listing[Hit]):
    """Hits, best first (the newest, without a reference), and what was searched for them.

    Two results are equal if all but the time that they took is; a result and a list are, if the hits are.

    Attributes:
        hits: best first.
        searched: segments that the filter left to choose from.
        total: segments in the collection.
        exact: whether every one of them was compared; else an index chose candidates, whose scores are exact too.
        seconds: from the resolved references to the hits.
        references: what was searched for: a path, an id, or what kind of array; none where the filter alone says it.
        where: the filter in force.
        text: the words in force.
        avoid: what hits should be unlike.
        trajectory: whether `references` is a trajectory, and hits are recordings of a similar one.
        hint: why there are no hits, where the filter names what does not exist, and what comes near it.
    """

    hits: tuple[Hit, ...]
    searched: int
    total: int
    exact: bool
    seconds: float = field(compare=False)
    references: tuple[str, ...]
    where: str | None
    text: str | None = None
    avoid: tuple[str, ...] = ()
    trajectory: bool = False
    hint: str | None = None

    @property
    def rows(self) -> tuple[Hit, ...]:  # type: ignore[override]
        """The hits."""
        return self.hits

    @property
    def row_type(self) -> type[Hit]:
        """The dataclass of the hits."""
        return Hit

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueryResult):
            return Listing.__eq__(self, other)
        compared = (each.name for each in fields(self) if each.compare)
        return all(getattr(self, name) == getattr(other, name) for name in compared)

    __hash__ = Listing.__hash__

    def __repr__(self) -> str:
        hits = f"{len(self.hits)} {'hit' if len(self.hits) == 1 else 'hits'}"
        return f"QueryResult({hits} for {', '.join(self.references) or self.where or self.text})"

    def _repr_html_(self) -> str:
        from e2vsearch.notebook.hits import hit_table

        among = f"{self.searched:,} of {self.total:,} segments" + (f" where {self.where}" if self.where else "")
        hits = f"{len(self.hits):,} {'hit' if len(self.hits) == 1 else 'hits'}"
        return hit_table(self.hits, f"{hits} for {', '.join(self.references) or 'all'} among {among}")

    def with_reference_names(self, names: Mapping[str, str]) -> QueryResult:
        """Return the result with its references under other names, as a client calls them: paths of a server leak.

        Args:
            names: the client's name of each path.
        """

        def new(name: str) -> str:
            return names.get(name, name)

        def matches(given: Sequence[Match]) -> tuple[Match, ...]:
            return tuple(replace(each, reference=new(each.reference)) for each in given)

        hits = []
        for hit in self.hits:
            why = hit.why
            if why is not None:
                avoided = tuple(replace(each, reference=new(each.reference)) for each in why.avoided)
                why = replace(why, matches=matches(why.matches), avoided=avoided)
            hits.append(replace(hit, alignment=matches(hit.alignment), why=why))
        references, avoid = tuple(map(new, self.references)), tuple(map(new, self.avoid))
        return replace(self, hits=tuple(hits), references=references, avoid=avoid)
