"""The strip of a call as SVG: a row for each channel, its segments in the colours of their emotions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from e2vsearch.display import clock
from e2vsearch.notebook import markup
from e2vsearch.palette import colour_of
from e2vsearch.types import Dynamics, Segment

_WIDTH, _HEAD, _ROW, _GAP = 760, 96, 30, 8  # pixels
_LETTER = 8  # of a name that stands inside its segment
_QUIET, _SURE = 0.35, 0.65  # opacity: without a name, and what certainty adds
_INK = "currentColor"


@dataclass(frozen=True, slots=True)
class Row:
    """One channel of a strip."""

    name: str
    analysed: bool
    segments: Sequence[Segment]


def strip(
    duration_s: float, rows: Sequence[Row], dynamics: Dynamics | None, turning: Sequence[tuple[float, str]]
) -> str:
    """Return the strip.

    Args:
        duration_s: of the recording.
        rows: its channels.
        dynamics: overtalk and silences, where they are known.
        turning: when the course changes, and whether for ``worsening`` or ``improving``.
    """
    scale = (_WIDTH - _HEAD) / max(duration_s, 1e-3)
    parts: list[str] = []
    top = _GAP
    for row in rows:
        parts += [_label(row.name, top), *_channel(row, top, scale)]
        top += _ROW + _GAP
    if dynamics is not None:
        for name, spans in (("overtalk", dynamics.overlaps), ("silence", dynamics.silences)):
            if spans:
                parts += [_label(name, top, 12), *_spans(name, spans, top, scale)]
                top += 12 + _GAP
    for at_s, direction in turning:
        x = _HEAD + at_s * scale
        arrow = {"worsening": "▼", "improving": "▲"}[direction]
        parts.append(f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{top:.0f}" stroke="{_INK}" stroke-dasharray="3 3"/>')
        parts.append(_text(x + 3, top + 10, f"{arrow} {direction} {clock(at_s)}"))
    top += 14 if turning else 0
    parts += [_text(_HEAD, top + 12, clock(0.0)), _text(_WIDTH, top + 12, clock(duration_s), "end")]
    size = f'width="{_WIDTH}" height="{top + 18}" viewBox="0 0 {_WIDTH} {top + 18}"'
    about = f"<title>{markup.text(f'A call of {clock(duration_s)}')}</title>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} font-family="sans-serif" font-size="11" '
        f'style="max-width:100%;height:auto">{about}{"".join(parts)}</svg>'
    )


def _channel(row: Row, top: float, scale: float) -> Iterator[str]:
    right = f'width="{_WIDTH - _HEAD}" height="{_ROW}"'
    yield f'<rect x="{_HEAD}" y="{top}" {right} fill="none" stroke="{_INK}" stroke-opacity="0.25"/>'
    if not row.analysed:
        yield _text(_HEAD + 6, top + 19, "not analysed")
    for each in row.segments:
        x, width = _HEAD + each.start_s * scale, max((each.end_s - each.start_s) * scale, 1.0)
        opacity = _QUIET + _SURE * (each.emotion_score or 0.0)
        named = each.emotion or "no classes"
        score = "" if each.emotion_score is None else f" {each.emotion_score:.2f}"
        told = f"{clock(each.start_s)}–{clock(each.end_s)} {named}{score}"  # noqa: RUF001 - a dash between numbers
        told += f": {each.text}" if each.text else ""
        fill = f'fill="{colour_of(each.emotion).light}" fill-opacity="{opacity:.2f}"'
        place = f'x="{x:.1f}" y="{top + 1}" width="{width:.1f}" height="{_ROW - 2}"'
        yield f"<g><title>{markup.text(told)}</title><rect {place} {fill}/>"
        short = named[: int(width / _LETTER)]
        yield _text(x + 3, top + 19, short if short == named else short[:1]) if short else ""
        yield "</g>"


def _spans(name: str, spans: Sequence[tuple[float, float]], top: float, scale: float) -> Iterator[str]:
    for start_s, end_s in spans:
        x, width = _HEAD + start_s * scale, max((end_s - start_s) * scale, 1.0)
        place = f'x="{x:.1f}" y="{top}" width="{width:.1f}" height="10"'
        told = f"{name} {clock(start_s)}–{clock(end_s)}"  # noqa: RUF001 - a dash between numbers
        yield f'<g><title>{told}</title><rect {place} fill="{_INK}" fill-opacity="0.45"/></g>'


def _label(name: str, top: float, height: int = _ROW) -> str:
    return _text(_HEAD - 8, top + height / 2 + 4, name, "end")


def _text(x: float, y: float, content: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_INK}">{markup.text(content)}</text>'
