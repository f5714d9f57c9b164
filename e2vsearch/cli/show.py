"""``show``: one call as a strip for each channel, its summary, and its segments."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.emotion import bar, colour
from e2vsearch.cli.options import OpenOptions
from e2vsearch.cli.output import Results, counted, span
from e2vsearch.cli.table import Column, columns_of, shortened
from e2vsearch.cli.text import shown
from e2vsearch.display import clock

if TYPE_CHECKING:
    from rich.text import Text

    from e2vsearch.analysis.timeline import ChannelTimeline, Timeline
    from e2vsearch.types import Dynamics, Segment

_HEAD = 12  # columns before a strip and a fact
_LETTERS = {"unsure": "?", "too short": ",", "surprised": "P", None: "▒"}
_ARROWS = {"worsening": "▼", "improving": "▲"}
_COLUMNS: Mapping[str, str | Column] = {
    "id": "id",
    "of": "of",
    "at": "at",
    "emotion": "emotion",
    "score": "p>",
    "label": Column("label", fit="end", optional=True),
    "text": Column(below=True, fit="wrap"),
}
_UNKNOWN = "not known: it was ingested before they were computed, or from vectors - remove it and ingest it again"


@command("show call:10", "show calls/one.wav", "show refund-shouting -f json")
def show(
    recording: Annotated[
        str,
        typer.Argument(
            metavar="RECORDING", help="An id (call:10), the path or URL that it was ingested from, or its name."
        ),
    ],
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Show one call. A strip for each channel, a letter an emotion; how it went, who spoke when; its segments.

    Of an agent's channel that is not analysed, turns and talk alone are known.
    """
    with options.open() as collection:
        found = collection.timeline(recording)
    if results.format == "table":
        on_terminal = results.output is None and sys.stdout.isatty()
        width = columns_of(terminal=on_terminal)
        above = [*_header(found, width), *_strips(found, width), *_facts(found, width)]
        results.write([], _COLUMNS, table=_rows(found), above=above)
    elif results.format == "csv":
        results.write([asdict(each) for line in found.channels for each in line.segments])
    else:
        whole = asdict(found)
        results.write([whole], whole=whole)


def _rows(found: Timeline) -> list[dict[str, Any]]:
    segments = sorted((each for line in found.channels for each in line.segments), key=lambda each: each.start_s)
    return [
        {
            "id": each.id,
            "of": _voice(found.channels[each.channel]),
            "at": span(each.start_s, each.end_s),
            "emotion": bar(each.emotion, each.emotion_score),
            "score": None if each.emotion_score is None else f"{each.emotion_score:.2f}",
            "label": each.label,
            "text": each.text,
        }
        for each in segments
    ]


def _voice(channel: ChannelTimeline) -> str:
    """Return whose voice a channel has, where that is known, and its number."""
    return f"{channel.channel} {channel.role}" if channel.role else f"{channel.channel}"


def _header(found: Timeline, width: int) -> Iterator[Text]:
    from rich.console import Console
    from rich.text import Text

    recording = found.recording
    about = [clock(recording.duration_s), f"{recording.recorded_at:%Y-%m-%d}"]
    about += [f"{name} {value}" for name, value in recording.metadata.items() if name != "date"]
    name = shortened(shown(recording.name), width - len(recording.id) - 2)
    line = Text.assemble((recording.id, "bold"), "  ", (name, "bold"), "  ", shown(", ".join(about)))
    yield from line.wrap(Console(width=width), width)
    yield Text()


# ---------------------------------------------------------------------------------------------------------- strips


def _strips(found: Timeline, width: int) -> Iterator[Text]:
    """Yield a line for each channel and for what lies between them, and what the letters mean."""
    from rich.text import Text

    cells = max(width - _HEAD, 20)
    duration_s = max(found.recording.duration_s, 1e-3)
    end = clock(found.recording.duration_s)
    yield Text(f"{'':{_HEAD}}{clock(0.0)}{end:>{cells - len(clock(0.0))}}", style="dim")
    letters = _letters(found)
    for channel in found.channels:
        line = Text(f"{shortened(_voice(channel), _HEAD - 1):{_HEAD}}")
        if not channel.analysed:
            line.append("not analysed", style="dim")
        for emotion, is_spoken in _cells(channel.segments, cells, duration_s) if channel.analysed else ():
            if is_spoken:
                line.append(letters[emotion], style=f"{colour(emotion)} reverse")
            else:
                line.append("·", style="dim")
        yield line
    if found.dynamics is not None:
        yield from _marks("overtalk", "=", found.dynamics.overlaps, cells, duration_s)
        yield from _marks("silence", "-", found.dynamics.silences, cells, duration_s)
    points = {int(each.at_s / duration_s * cells): _ARROWS[each.direction] for each in found.summary.turning_points}
    if points:
        yield Text(f"{'turning':{_HEAD}}" + "".join(points.get(at, " ") for at in range(cells)).rstrip())
    legend = Text(" " * _HEAD)
    for emotion, letter in letters.items():
        legend.append(letter, style=f"{colour(emotion)} reverse")
        legend.append(f" {shown(emotion or 'no classes')}  ")
    yield from legend.wrap(_console(width), width) if letters else ()
    yield Text()


def _console(width: int) -> Any:
    from rich.console import Console

    return Console(width=width)


def _letters(found: Timeline) -> dict[str | None, str]:
    """Return a letter for each emotion that there is: its own first one, as far as that is free."""
    counts = Counter(each.emotion for line in found.channels for each in line.segments)
    letters: dict[str | None, str] = {}
    for emotion, _ in counts.most_common():
        given = _LETTERS.get(emotion)
        free = (each for each in (emotion or "").upper() if each.isalnum() and each not in letters.values())
        letters[emotion] = given or next(free, "#")
    return letters


def _cells(segments: Sequence[Segment], cells: int, duration_s: float) -> Iterator[tuple[str | None, bool]]:
    """Yield for each cell the emotion of most of its speech, and whether there is any."""
    seconds: list[dict[str | None, float]] = [{} for _ in range(cells)]
    for each in segments:
        first, last = (min(int(at / duration_s * cells), cells - 1) for at in (each.start_s, each.end_s))
        for at in range(first, last + 1):
            start_s, end_s = at * duration_s / cells, (at + 1) * duration_s / cells
            inside = min(end_s, each.end_s) - max(start_s, each.start_s)
            if inside > 0:
                seconds[at][each.emotion] = seconds[at].get(each.emotion, 0.0) + inside
    for of_cell in seconds:
        yield max(of_cell, key=lambda name: of_cell[name], default=None), bool(of_cell)


def _marks(name: str, mark: str, spans: Sequence[tuple[float, float]], cells: int, duration_s: float) -> Iterator[Text]:
    from rich.text import Text

    if not spans:
        return
    marked = [" "] * cells
    for start_s, end_s in spans:
        for at in range(int(start_s / duration_s * cells), min(int(end_s / duration_s * cells) + 1, cells)):
            marked[at] = mark
    yield Text(f"{name:{_HEAD}}" + "".join(marked).rstrip(), style="dim")


# ----------------------------------------------------------------------------------------------------------- facts


def _facts(found: Timeline, width: int) -> Iterator[Text]:
    from rich.text import Text

    for name, value in _named_facts(found):
        for at, line in enumerate(Text(shown(value)).wrap(_console(width), max(width - _HEAD, 20))):
            yield Text(f"{'' if at else name:{_HEAD}}{line.plain.rstrip()}")
    yield Text()


def _named_facts(found: Timeline) -> list[tuple[str, str]]:
    summary = found.summary
    facts: list[tuple[str, str]] = [("course", summary.course or "too few segments to tell")]
    facts += [
        (
            f"  {each.direction}",
            f"at {clock(each.at_s)} ({each.segment}): valence {each.valence_before:.2f} to {each.valence_after:.2f}, "
            f"then {each.emotion}",
        )
        for each in summary.turning_points
    ]
    for of_role in summary.by_role:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in of_role.shares.items()) or "no classes"
        spoken = f"{counted(of_role.segments, 'segment')}, {clock(of_role.speech_s)}"
        facts.append((of_role.role or "voices", f"{shares}; {spoken}" if of_role.segments else "no speech"))
    segments = {each.id: each for line in found.channels for each in line.segments}
    strongest = [segments[each] for each in summary.strongest]
    if strongest:
        named = (f"{each.emotion} {each.emotion_score:.2f} at {clock(each.start_s)} ({each.id})" for each in strongest)
        facts.append(("strongest", ", ".join(named)))
    return [*facts, *_dynamics(found.dynamics)]


def _dynamics(known: Dynamics | None) -> list[tuple[str, str]]:
    if known is None:
        return [("dynamics", _UNKNOWN)]
    talk = f"{known.talk_share:.0%}{_of_each({_name(each): f'{each.talk_share:.0%}' for each in known.by_channel})}"
    facts = [("talk", talk)]
    facts.append(("silence", f"{known.silence_share:.0%}, {known.longest_silence_s:.1f} s at most"))
    if known.turns is None:
        return facts
    turns = {_name(each): f"{each.turns}, {each.longest_turn_s:.1f} s at most" for each in known.by_channel}
    interruptions = {_name(each): f"{each.interruptions}" for each in known.by_channel}
    facts.append(("turns", f"{known.turns}{_of_each(turns)}"))
    facts.append(("overtalk", f"{known.overtalk:.0%}, {counted(known.interruptions or 0, 'interruption')}"))
    if known.interruptions:
        facts[-1] = (facts[-1][0], facts[-1][1] + _of_each(interruptions))
    return facts


def _of_each(values: Mapping[str, str]) -> str:
    return f" ({'; '.join(f'{name} {value}' for name, value in values.items())})" if len(values) > 1 else ""


def _name(channel: Any) -> str:
    return channel.role or f"channel {channel.channel}"
