"""Who speaks when in a recording: talk, silence, overtalk, turns and interruptions, from the speech of its channels.

Turns are those of Jaffe and Feldstein (1970, "Rhythms of Dialogue", Academic Press): who speaks alone has the floor,
and keeps it until somebody else speaks alone, so that a "mhm" below another's voice is no turn. Speech of both that
ends with the other speaker alone is their interruptive simultaneous speech. It is an interruption here if it lasted
`LEAST_INTERRUPTION_S`: shorter overlaps are how turns change in any conversation (Schegloff 2000, "Overlapping talk and
the organization of turn-taking for conversation", Language in Society 29, 1-63).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from e2vsearch.types import ChannelDynamics, Dynamics

Spans = Sequence[tuple[float, float]]
"""Seconds: start and end of each stretch of speech, in order, none overlapping another."""

LEAST_PAUSE_S = 0.2
"""A shorter gap in one channel's speech is a stop consonant and no pause (Brady 1968, "A statistical analysis of on-off
patterns in 16 conversations", Bell System Technical Journal 47, 73-91)."""

LEAST_SILENCE_S = 1.0
"""A shorter silence is not listed: what conversation tolerates is about a second (Jefferson 1989, "Preliminary notes on
a possible metric which provides for a 'standard maximum' silence of approximately one second in conversation")."""

LEAST_INTERRUPTION_S = 0.5
"""Of overtalk. Half of the overlaps at which turns change last 0.2 s or less (Levinson and Torreira 2015, "Timing in
turn-taking and its implications for processing models of language", Frontiers in Psychology 6:731)."""

_SAME_VOICES = 0.9
"""Share of the talk: channels that speak at once for longer than that carry the same voices."""


def dynamics(speech: Sequence[Spans], duration_s: float) -> Dynamics:
    """Return who speaks when.

    One channel alone, or several with the same voices, tell nothing of turns and overtalk, which are None then.

    Args:
        speech: of each channel.
        duration_s: of the recording.

    >>> both = dynamics([[(0.0, 4.0)], [(3.0, 8.0)]], 10.0)
    >>> both.talk_share, both.overtalk, both.turns, both.interruptions, both.silences
    (0.8, 0.1, 2, 1, ((8.0, 10.0),))
    """
    channels = [_joined(each, LEAST_PAUSE_S) for each in speech]
    states = list(_states(channels, duration_s))
    silences = [(start, end) for start, end, speaking in states if not speaking]
    overlaps = _joined((start, end) for start, end, speaking in states if len(speaking) > 1)
    silence_s, overtalk_s = _total(silences), _total(overlaps)
    talk_s = duration_s - silence_s
    apart = len(channels) > 1 and overtalk_s <= _SAME_VOICES * talk_s
    turns = _turns(states) if apart else []

    def share(seconds: float) -> float:
        return round(seconds / duration_s, 6) if duration_s else 0.0

    by_channel = []
    for channel, spans in enumerate(channels):
        own = [each for each in turns if each.channel == channel]
        interruptions = sum(each.interrupts for each in own)
        longest_s = round(max((each.end_s - each.start_s for each in own), default=0.0), 3)
        of_turns = (len(own), interruptions, longest_s) if apart else (None, None, None)
        by_channel.append(ChannelDynamics(channel, None, share(_total(spans)), *of_turns))
    return Dynamics(
        talk_share=share(talk_s),
        silence_share=share(silence_s),
        longest_silence_s=round(max((end - start for start, end in silences), default=0.0), 3),
        overtalk=share(overtalk_s) if apart else None,
        interruptions=sum(each.interrupts for each in turns) if apart else None,
        turns=len(turns) if apart else None,
        by_channel=tuple(by_channel),
        overlaps=tuple(overlaps) if apart else (),
        silences=tuple((start, end) for start, end in silences if end - start >= LEAST_SILENCE_S),
    )


@dataclass(slots=True)
class _Turn:
    channel: int
    start_s: float
    end_s: float  # where its speaker was silent, or spoken over to the end
    interrupts: bool


def _turns(states: Iterable[_State]) -> list[_Turn]:
    turns: list[_Turn] = []
    since: dict[int, float] = {}  # when each who speaks began to
    for start, end, speaking in states:
        since = {channel: since.get(channel, start) for channel in speaking}
        holder = turns[-1] if turns else None
        if holder is not None and holder.channel in speaking:
            holder.end_s = end
        elif len(speaking) == 1:
            (channel,) = speaking
            spoken_over = holder is not None and holder.end_s == start
            interrupts = spoken_over and start - since[channel] >= LEAST_INTERRUPTION_S
            turns.append(_Turn(channel, since[channel], end, interrupts))
    return turns


_State = tuple[float, float, frozenset[int]]


def _states(channels: Sequence[Spans], duration_s: float) -> Iterator[_State]:
    """Yield the stretches in which the same channels speak, from the first sample to the last."""
    events = [(at, channel) for channel, spans in enumerate(channels) for span in spans for at in span]
    speaking: frozenset[int] = frozenset()
    last = 0.0
    for at, channel in sorted(events):
        if at > last:
            yield last, at, speaking
            last = at
        speaking ^= {channel}
    if duration_s > last:
        yield last, duration_s, speaking


def _joined(spans: Iterable[tuple[float, float]], gap_s: float = 0.0) -> list[tuple[float, float]]:
    """Return spans, those as one that touch or have less than `gap_s` between them."""
    found: list[tuple[float, float]] = []
    for start, end in spans:
        if found and (start - found[-1][1] < gap_s or start == found[-1][1]):
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _total(spans: Iterable[tuple[float, float]]) -> float:
    return sum(end - start for start, end in spans)
