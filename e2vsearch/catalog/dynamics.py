"""Who speaks when in recordings, and their courses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, insert, select, update

from e2vsearch.catalog.schema import ChannelDynamicsRow, DynamicsRow, RecordingRow, SegmentRow
from e2vsearch.course import course_of, is_told, judged
from e2vsearch.types import ChannelDynamics, Dynamics

_SHARED = ("talk_share", "turns", "interruptions")
_COLUMNS = (*_SHARED, "silence_share", "longest_silence_s", "overtalk")
_OF_CHANNEL = ("channel", *_SHARED, "longest_turn_s")

_SET_COURSE = update(RecordingRow).where(RecordingRow.id == bindparam("number")).values(course=bindparam("its"))


def insert_dynamics(connection: Connection, number: int, dynamics: Dynamics) -> None:
    """Insert the dynamics of a stored recording."""
    values = {name: getattr(dynamics, name) for name in _COLUMNS}
    lists = {name: [list(span) for span in getattr(dynamics, name)] for name in ("overlaps", "silences")}
    connection.execute(insert(DynamicsRow), [{"recording_id": number, **values, **lists}])
    channels = [
        {"recording_id": number, **{name: getattr(each, name) for name in _OF_CHANNEL}} for each in dynamics.by_channel
    ]
    if channels:
        connection.execute(insert(ChannelDynamicsRow), channels)


def dynamics_of(connection: Connection, number: int) -> Dynamics | None:
    """Return the dynamics of a stored recording, with the roles of its channels; None where they are not known."""
    found = connection.execute(
        select(DynamicsRow.__table__, RecordingRow.roles)
        .join(RecordingRow, RecordingRow.id == DynamicsRow.recording_id)
        .where(DynamicsRow.recording_id == number)
    ).one_or_none()
    if found is None:
        return None
    query = select(ChannelDynamicsRow.__table__).where(ChannelDynamicsRow.recording_id == number)
    channels = []
    for each in connection.execute(query.order_by(ChannelDynamicsRow.channel)):
        role = found.roles[each.channel] if found.roles else None
        channels.append(ChannelDynamics(role=role, **{name: getattr(each, name) for name in _OF_CHANNEL}))
    overlaps, silences = (tuple((start, end) for start, end in spans) for spans in (found.overlaps, found.silences))
    values = {name: getattr(found, name) for name in _COLUMNS}
    return Dynamics(by_channel=tuple(channels), overlaps=overlaps, silences=silences, **values)


def set_courses(connection: Connection, numbers: Sequence[int]) -> None:
    """Set the course of some hundreds of recordings at most, as the valence of their segments has it now."""
    row = SegmentRow
    lines: defaultdict[int, defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    query = select(row.recording_id, row.channel, row.start_s, row.end_s, row.valence, row.level_db)
    query = query.where(row.recording_id.in_(numbers), row.valence.is_not(None)).order_by(row.start_s, row.id)
    for each in connection.execute(query):
        if is_told(each.end_s - each.start_s, each.level_db):
            lines[each.recording_id][each.channel].append(each.valence)
    recordings = select(RecordingRow.id, RecordingRow.channels, RecordingRow.roles).where(RecordingRow.id.in_(numbers))
    courses = [
        {"number": each.id, "its": course_of(lines[each.id][at] for at in judged(each.roles or [None] * each.channels))}
        for each in connection.execute(recordings)
    ]
    if courses:
        connection.execute(_SET_COURSE, courses)
