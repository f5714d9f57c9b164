"""Who speaks when in recordings, and their courses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from e2vsearch.catalog.row_checksums import CHANNEL_DYNAMICS, DYNAMICS
from e2vsearch.catalog.schema import ChannelDynamicsRow, DynamicsRow, RecordingRow, SegmentRow
from e2vsearch.course import Course, course_of, is_told, judged
from e2vsearch.policy import Role
from e2vsearch.types import ChannelDynamics, Dynamics, recording_id

_SHARED = ("talk_share", "turns", "interruptions")
_COLUMNS = (*_SHARED, "silence_share", "longest_silence_s", "overtalk")
_LISTS = ("overlaps", "silences")
_OF_CHANNEL = ("channel", *_SHARED, "longest_turn_s")

_SET_COURSE = update(RecordingRow).where(RecordingRow.id == bindparam("number")).values(course=bindparam("its"))


def to_plain(dynamics: Dynamics) -> dict[str, Any]:
    """Return plain values, for JSON; whose voice a channel has is the recording's to say."""
    values = asdict(dynamics)
    for channel in values["by_channel"]:
        del channel["role"]
    return values


def from_plain(values: Mapping[str, Any]) -> Dynamics:
    """Return the dynamics of plain values, as `to_plain` makes them."""
    channels = tuple(ChannelDynamics(role=None, **each) for each in values["by_channel"])
    return Dynamics(**{**values, **{name: _spans(values[name]) for name in _LISTS}, "by_channel": channels})


def _spans(given: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((start, end) for start, end in given)


def insert_dynamics(connection: Connection, number: int, dynamics: Dynamics) -> None:
    """Insert the dynamics of a stored recording."""
    values = {name: getattr(dynamics, name) for name in _COLUMNS}
    lists = {name: [list(span) for span in getattr(dynamics, name)] for name in _LISTS}
    connection.execute(insert(DynamicsRow), [{"recording_id": number, **values, **lists}])
    channels = [
        {"recording_id": number, **{name: getattr(each, name) for name in _OF_CHANNEL}} for each in dynamics.by_channel
    ]
    if channels:
        connection.execute(insert(ChannelDynamicsRow), channels)


def dynamics_of(connection: Connection, numbers: Sequence[int]) -> dict[int, Dynamics]:
    """Return the dynamics of those of some hundreds of recordings that have any, with the roles of their channels."""
    of_some = ChannelDynamicsRow.recording_id.in_(numbers)
    query = select(ChannelDynamicsRow.__table__, RecordingRow.roles).where(of_some)
    query = query.join(RecordingRow, RecordingRow.id == ChannelDynamicsRow.recording_id)
    channels: defaultdict[int, list[ChannelDynamics]] = defaultdict(list)
    for row in connection.execute(query.order_by(ChannelDynamicsRow.channel)):
        CHANNEL_DYNAMICS.check([row], lambda each: recording_id(each.recording_id))
        role = row.roles[row.channel] if row.roles else None
        of_channel = {name: getattr(row, name) for name in _OF_CHANNEL}
        channels[row.recording_id].append(ChannelDynamics(role=role, **of_channel))
    found = {}
    for row in connection.execute(select(DynamicsRow.__table__).where(DynamicsRow.recording_id.in_(numbers))):
        DYNAMICS.check([row], lambda each: recording_id(each.recording_id))
        values: dict[str, Any] = {name: getattr(row, name) for name in _COLUMNS}
        values |= {name: _spans(getattr(row, name)) for name in _LISTS}
        found[row.recording_id] = Dynamics(by_channel=tuple(channels[row.recording_id]), **values)
    return found


def set_courses(connection: Connection, numbers: Sequence[int]) -> None:
    """Set the course of some hundreds of recordings at most, as the valence of their segments has it now."""
    courses = [{"number": number, "its": course} for number, course in courses_of(connection, numbers).items()]
    if courses:
        connection.execute(_SET_COURSE, courses)


def course_of_segments(segments: Iterable[Mapping[str, Any]], roles: Sequence[Role | None]) -> Course | None:
    """Return the course of a recording that the valence of its segments makes.

    Args:
        segments: the columns of `SegmentRow`, in the order of ids.
        roles: of its channels.
    """
    lines: defaultdict[int, list[float]] = defaultdict(list)
    for each in sorted(segments, key=itemgetter("start_s")):
        if each["valence"] is not None and is_told(each["end_s"] - each["start_s"], each["level_db"]):
            lines[each["channel"]].append(each["valence"])
    return course_of(lines[at] for at in judged(roles))


def courses_of(connection: Connection, numbers: Sequence[int]) -> dict[int, Course | None]:
    """Return the course of some hundreds of recordings at most, see `course_of_segments`."""
    row = SegmentRow
    segments: defaultdict[int, list[Any]] = defaultdict(list)
    query = select(row.recording_id, row.channel, row.start_s, row.end_s, row.valence, row.level_db)
    query = query.where(row.recording_id.in_(numbers), row.valence.is_not(None)).order_by(row.id)
    for each in connection.execute(query).mappings():
        segments[each["recording_id"]].append(each)
    recordings = select(RecordingRow.id, RecordingRow.channels, RecordingRow.roles).where(RecordingRow.id.in_(numbers))
    return {
        each.id: course_of_segments(segments[each.id], each.roles or [None] * each.channels)
        for each in connection.execute(recordings)
    }
