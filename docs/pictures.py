"""The drawing of docs/explanation/space.md: from a recording to a score, in docs/images/space.svg.

    python docs/pictures.py

Six panels, drawn and not measured: points and curves come from a seeded generator, so that the file is the same on
every machine. Paper and ink change together with the reader's light or dark scheme.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).resolve().parent / "images" / "space.svg"
WIDTH, HEIGHT = 960, 540
PANEL = (290, 232)  # width, height
GAP = 35
STYLE = """
text { font: 15px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 17px; }
.small { font-size: 13px; fill: #57606a; }
.paper { fill: #ffffff; }
.panel { fill: #f6f8fa; stroke: #d0d7de; }
.line { stroke: #1f2328; stroke-width: 1.5; fill: none; }
.faint { stroke: #8c959f; stroke-width: 1.2; fill: none; }
.dropped { fill: #8c959f; opacity: .35; }
.a { fill: #c4432b; stroke: #c4432b; }
.b { fill: #2f6fb3; stroke: #2f6fb3; }
.bars { fill: #8c959f; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9da7b3; }
  .paper { fill: #0d1117; }
  .panel { fill: #161b22; stroke: #30363d; }
  .line { stroke: #e6edf3; }
  .faint { stroke: #6e7681; }
  .dropped, .bars { fill: #6e7681; }
  .a { fill: #ff8a70; stroke: #ff8a70; }
  .b { fill: #79b8ff; stroke: #79b8ff; }
}
"""
SAID = (
    "A recording has channels, a channel has segments, an encoder makes a vector of each segment. In the encoder's "
    "space vectors of one voice lie together, behind the projection those of one mood. A score is a cosine, shown "
    "with the share of random pairs that are less alike. Drawn, not measured."
)
STEPS = (
    ("1  recording", "one file, one call"),
    ("2  channels", "one voice each, never mixed"),
    ("3  segments", "spoken spans of 1 to 15 s"),
    ("4  vectors", "the encoder's space: voices lie together"),
    ("5  projection", "what is compared: moods lie together"),
    ("6  score", "a cosine, and its percentile"),
)


def wave(x: float, y: float, width: float, height: float, rng: random.Random, parts: int = 4) -> str:
    """Return the path of a voice that speaks in so many bursts, around a middle line `y`."""
    steps = 150
    points = []
    for at in range(steps + 1):
        burst = max(0.0, math.sin(math.pi * parts * at / steps)) ** 0.6 if int(parts * at / steps) % 2 == 0 else 0.04
        size = burst * rng.uniform(0.35, 1.0) * height / 2
        points.append(f"{x + width * at / steps:.1f} {y + (size if at % 2 else -size):.1f}")
    return f'<path class="line" d="M{" L".join(points)}"/>'


def symbol(shape: str, mood: str, x: float, y: float) -> str:
    """Return one segment as a point: the shape is the voice, the colour the mood."""
    if shape == "round":
        return f'<circle class="{mood}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
    return f'<rect class="{mood}" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'


def scatter(x: float, y: float, rng: random.Random, centres: dict[tuple[str, str], tuple[float, float]]) -> str:
    """Return five points around each centre."""
    return "".join(
        symbol(*kind, x + cx + rng.gauss(0, 13), y + cy + rng.gauss(0, 12))
        for kind, (cx, cy) in centres.items()
        for _ in range(5)
    )


def drawings() -> Iterator[str]:
    """Yield what each panel holds, in coordinates of the panel."""
    rng = random.Random(5)
    yield wave(20, 115, 250, 60, rng, 7) + '<text class="small" x="20" y="205">WAV, MP3, Ogg … → 16 kHz</text>'

    yield (
        wave(20, 95, 250, 46, rng, 5)
        + '<text class="small" x="20" y="135">channel 1, customer: analysed</text>'
        + '<rect class="dropped" x="20" y="150" width="250" height="32" rx="3"/>'
        + '<text class="small" x="20" y="205">channel 0, agent: only when it speaks</text>'
    )

    spans = "".join(
        f'<rect class="{mood}" x="{left}" y="126" width="{width}" height="8" rx="4"/>'
        f'<text class="small" x="{left}" y="154">{name}</text>'
        for left, width, mood, name in ((20, 50, "b", "seg:18"), (120, 50, "b", "seg:19"), (220, 50, "a", "seg:20"))
    )
    yield (
        wave(20, 95, 250, 46, rng, 5)
        + spans
        + '<text class="small" x="20" y="205">cut at pauses, found by a VAD</text>'
    )

    yield (
        scatter(0, 0, rng, {
            ("round", "a"): (70, 105), ("round", "b"): (100, 148), ("square", "a"): (195, 110),
            ("square", "b"): (222, 152),
        })
        + '<text class="small" x="20" y="205">shape: the voice; colour: the mood</text>'
    )  # fmt: skip

    yield (
        scatter(0, 0, rng, {
            ("round", "a"): (80, 115), ("square", "a"): (95, 130), ("round", "b"): (205, 120),
            ("square", "b"): (215, 138),
        })
        + '<text class="small" x="20" y="205">less of voice, words and room</text>'
    )  # fmt: skip

    heights = [math.exp(-(((at - 9) / 10.0) ** 2)) + 0.05 * rng.random() for at in range(25)]
    bars = "".join(
        f'<rect class="bars" x="{20 + 10 * at}" y="{170 - 80 * height:.1f}" width="8" height="{80 * height:.1f}"/>'
        for at, height in enumerate(heights)
    )
    yield (
        bars
        + '<path class="faint" d="M20 170 H270"/>'
        + '<rect class="a" x="246" y="72" width="2" height="98"/>'
        + '<text x="207" y="84">0.81</text><text class="small" x="189" y="102">94.6 %</text>'
        + '<text class="small" x="20" y="190">-1</text><text class="small" x="262" y="190">1</text>'
        + '<text class="small" x="20" y="210">bars: random pairs of this collection</text>'
    )


def drawing() -> str:
    """Return the whole file."""
    parts = []
    for at, ((title, below), inside) in enumerate(zip(STEPS, drawings(), strict=True)):
        x, y = 10 + (PANEL[0] + GAP) * (at % 3), 10 + (PANEL[1] + 2 * GAP - 14) * (at // 3)
        parts.append(
            f'<g transform="translate({x} {y})"><rect class="panel" width="{PANEL[0]}" height="{PANEL[1]}" rx="8"/>'
            f'<text class="title" x="20" y="30">{title}</text>'
            f'<text class="small" x="20" y="51">{below}</text>{inside}</g>'
        )
    for x, y in ((303, 126), (628, 126), (303, 414), (628, 414)):
        parts.append(f'<path class="line" d="M{x} {y} h24 m-7 -6 l7 6 l-7 6"/>')
    parts.append(
        '<path class="line" d="M805 246 v26 H155 v20 m-6 -7 l6 7 l6 -7"/>'
        '<text class="small" x="420" y="267">encoder</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t d">\n'
        '<title id="t">From a recording to a score</title>\n'
        f'<desc id="d">{SAID}</desc>\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )  # fmt: skip


if __name__ == "__main__":
    TARGET.write_text(drawing(), encoding="utf-8")
    print(f"written: {TARGET.name}")
