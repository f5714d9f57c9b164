"""The timeline of a call: its channels with their segments, who spoke when, and how it went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from e2vsearch.catalog import recordings
from e2vsearch.catalog.dynamics import dynamics_of
from e2vsearch.catalog.writer import Catalog
from e2vsearch.course import Course, Direction, changes, course_of, is_told, judged
from e2vsearch.emotions import NAMELESS, NEUTRAL, UNSURE
from e2vsearch.errors import NotStored, QueryError
from e2vsearch.policy import Role
from e2vsearch.types import Dynamics, Recording, Segment, number_of

_STRONGEST = 3  # segments of a summary


@dataclass(frozen=True, slots=True)
class ChannelTimeline:
    """One channel of a call; an agent's that is not analysed has no segments."""

    channel: int
    role: Role | None  # whose voice it has; None where that is not known
    analysed: bool
    speech_s: float  # of its segments
    segments: tuple[Segment, ...]  # in order of time


@dataclass(frozen=True, slots=True)
class RoleShares:
    """Emotion shares of the voices of one role."""

    role: Role | None
    segments: int
    speech_s: float
    shares: Mapping[str, float]  # of the seconds spoken, by the name shown, most first; sum 1


@dataclass(frozen=True, slots=True)
class TurningPoint:
    """A time from which on a voice is less, or more, pleasant for a while, see `course.changes`."""

    at_s: float  # where the first segment after it starts
    channel: int
    segment: str  # that segment
    direction: Direction
    valence_before: float  # 0 unpleasant to 1 pleasant: mean since the turning point before
    valence_after: float  # until the next one
    emotion: str  # after it: the name of most of the seconds, "unsure" where no class is named


@dataclass(frozen=True, slots=True)
class Summary:
    """How a call went."""

    course: Course | None  # None: too few segments to tell
    by_role: tuple[RoleShares, ...]
    strongest: tuple[str, ...]  # ids of segments: the surest named emotion other than neutral, surest first
    turning_points: tuple[TurningPoint, ...]  # in order of time


@dataclass(frozen=True, slots=True)
class Timeline:
    """One call as it is looked at: the source of every view of it."""

    recording: Recording
    channels: tuple[ChannelTimeline, ...]
    dynamics: Dynamics | None  # None: ingested before they were computed, or from vectors alone
    summary: Summary

    def _repr_html_(self) -> str:
        from e2vsearch.notebook import markup, strip

        recording, summary = self.recording, self.summary
        rows = [
            strip.Row(f"{each.channel} {each.role or ''}".strip(), each.analysed, each.segments)
            for each in self.channels
        ]
        turning = [(each.at_s, each.direction) for each in summary.turning_points]
        drawn = strip.strip(recording.duration_s, rows, self.dynamics, turning)
        named = [("course", markup.text(summary.course or "too few segments to tell"))]
        for each in summary.by_role:
            shares = (f"{markup.emotion(name)} {share:.0%}" for name, share in each.shares.items())
            named.append((each.role or "voices", ", ".join(shares)))
        if (known := self.dynamics) is not None:
            told = f"talk {known.talk_share:.0%}, silence {known.silence_share:.0%}"
            if known.turns is not None:
                told += f", overtalk {known.overtalk:.0%}, turns {known.turns}, interruptions {known.interruptions}"
            named.append(("dynamics", told))
        title = f"<p><b>{markup.text(recording.id)}</b> {markup.text(recording.name)}</p>"
        return title + drawn + markup.facts(named)


def stored_timeline(catalog: Catalog, name: str) -> Timeline:
    """Return the timeline of a stored recording.

    Args:
        catalog: where it is stored.
        name: its id, ``call:45``, the path or URL that it was ingested from, or its name, where that is the only one.

    Raises:
        NotStored: there is none.
        QueryError: several are called that.
    """
    recording = named_recording(catalog, name)
    policy = catalog.policy.with_roles(dict(_known_roles(recording)))
    number = number_of(recording.id, "call")
    with catalog.reading() as connection:
        dynamics = dynamics_of(connection, [number]).get(number)
    segments = recordings.segments(catalog, recording.id)
    return timeline(recording, segments, dynamics, policy.analysed(recording.channels))


def named_recording(catalog: Catalog, name: str) -> Recording:
    """Return one recording by its id, its path or URL, or its name.

    Raises:
        NotStored: there is none.
        QueryError: several are called that.
    """
    try:
        found = recordings.find(catalog, [name], None)
    except NotStored:
        found = recordings.by_name(catalog, name)
        if not found:
            raise
    if len(found) > 1:
        several = ", ".join(each.id for each in found[:3]) + (" …" if len(found) > 3 else "")
        raise QueryError(f"{name} names {len(found):,} recordings ({several}) - name one, by its id or path")
    return found[0]


def timeline(
    recording: Recording, segments: Sequence[Segment], dynamics: Dynamics | None, analysed: Sequence[int]
) -> Timeline:
    """Return the timeline of a recording.

    Args:
        recording: with its roles.
        segments: all of its segments, in order of time.
        dynamics: of its speech.
        analysed: the channels whose segments may be shown.
    """
    roles = recording.roles or (None,) * recording.channels
    channels = []
    for channel, role in enumerate(roles):
        own = tuple(each for each in segments if each.channel == channel and channel in analysed)
        channels.append(ChannelTimeline(channel, role, channel in analysed, _speech_s(own), own))
    return Timeline(recording, tuple(channels), dynamics, _summary(channels))


def _known_roles(recording: Recording) -> Iterable[tuple[int, Role]]:
    return ((channel, role) for channel, role in enumerate(recording.roles or ()) if role is not None)


def _summary(channels: Sequence[ChannelTimeline]) -> Summary:
    lines = [_told(channels[channel]) for channel in judged([each.role for each in channels])]
    course = course_of([valence for _, valence in line] for line in lines)
    points = sorted((point for line in lines for point in _turning_points(line)), key=lambda point: point.at_s)
    shares = []
    for role in dict.fromkeys(channel.role for channel in channels if channel.analysed):
        own = [each for channel in channels if channel.role == role for each in channel.segments]
        shares.append(RoleShares(role, len(own), _speech_s(own), _shares(own)))
    return Summary(course, tuple(shares), _strongest(channels), tuple(points))


def _told(channel: ChannelTimeline) -> list[tuple[Segment, float]]:
    return [
        (each, each.valence)
        for each in channel.segments
        if each.valence is not None and is_told(each.end_s - each.start_s, each.level_db)
    ]


def _turning_points(line: Sequence[tuple[Segment, float]]) -> Iterator[TurningPoint]:
    for change in changes([valence for _, valence in line]):
        first = line[change.at][0]
        named = _shares(each for each, _ in line[change.at : change.end] if each.emotion not in NAMELESS)
        of = change.direction, change.before, change.after
        yield TurningPoint(first.start_s, first.channel, first.id, *of, next(iter(named), UNSURE))


def _shares(segments: Iterable[Segment]) -> dict[str, float]:
    """Return the share of the seconds of each name, most first."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for each in segments:
        if each.emotion is not None:
            seconds[each.emotion] += each.end_s - each.start_s
    total = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return {name: spoken / total for name, spoken in ordered} if total else {}


def _strongest(channels: Sequence[ChannelTimeline]) -> tuple[str, ...]:
    named = [
        (-each.emotion_score, each.start_s, each.id)
        for channel in channels
        for each in channel.segments
        if each.emotion_score is not None and (each.emotion or "").casefold() != NEUTRAL
    ]
    return tuple(identifier for _, _, identifier in sorted(named)[:_STRONGEST])


def _speech_s(segments: Sequence[Segment]) -> float:
    return round(sum((each.end_s - each.start_s for each in segments), 0.0), 3)
