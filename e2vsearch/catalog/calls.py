"""Recordings as a list to look through: the newest first, each with the emotions in it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, func, or_, select

from e2vsearch.catalog.database import chunks, filtering
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import RecordingRow, SegmentRow
from e2vsearch.errors import NotStored
from e2vsearch.types import Call, number_of


def newest(
    catalog: CatalogReader, limit: int, where: str | None = None, text: str | None = None, after: str | None = None
) -> list[Call]:
    """Return recordings, the one that was made last first.

    Args:
        catalog: of the collection.
        limit: how many at most.
        where: only those with a segment that meets this filter.
        text: only those with a segment in which these words are said; with `where`, in the same segment.
        after: the id of the last one of the page before, ``call:45``.

    Raises:
        BadFilter: `where` or `text` is invalid.
        UnlawfulUse: emotion by employee, see `e2vsearch.policy`.
        NotStored: `after` has gone.
    """
    query = select(RecordingRow.id).order_by(RecordingRow.recorded_at.desc(), RecordingRow.id.desc()).limit(limit)
    segments = select(SegmentRow.recording_id)
    if where is not None:
        segments = segments.where(catalog.condition(where))
    if text is not None:
        from e2vsearch.catalog.text_search import condition

        segments = segments.where(condition(catalog, text))
    if where is not None or text is not None:
        query = query.where(RecordingRow.id.in_(segments))
    with filtering(), catalog.reading() as connection:
        if after is not None:
            last = number_of(after, "call")
            at = connection.execute(select(RecordingRow.recorded_at).where(RecordingRow.id == last)).scalar()
            if at is None:
                raise NotStored(f"{after} is not there any more - begin again at the first page")
            earlier = and_(RecordingRow.recorded_at == at, RecordingRow.id < last)
            query = query.where(or_(RecordingRow.recorded_at < at, earlier))
        numbers = list(connection.execute(query).scalars())
    found = dict(catalog.recordings(numbers)) if numbers else {}
    spoken = _spoken(catalog, numbers)
    calls = []
    for number in numbers:
        if number in found:  # else another process has removed it meanwhile
            seconds = spoken.get(number, {})
            whole = sum(seconds.values())
            named = sorted(((name, s / whole) for name, s in seconds.items() if name is not None), key=_surest)
            calls.append(Call(found[number], round(whole, 3), {name: round(share, 4) for name, share in named}))
    return calls


def _surest(share: tuple[str, float]) -> tuple[float, str]:
    return -share[1], share[0]


def _spoken(catalog: CatalogReader, recordings: Sequence[int]) -> dict[int, dict[str | None, float]]:
    """Return the seconds of speech of each recording, by the emotion that is shown; without one under None."""
    length = func.sum(SegmentRow.end_s - SegmentRow.start_s)
    found: dict[int, dict[str | None, float]] = {}
    with catalog.reading() as connection:
        for part in chunks(recordings):
            query = select(SegmentRow.recording_id, SegmentRow.label, length).where(SegmentRow.recording_id.in_(part))
            for recording, name, seconds in connection.execute(
                query.group_by(SegmentRow.recording_id, SegmentRow.label)
            ):
                found.setdefault(recording, {})[name] = seconds
    return found
