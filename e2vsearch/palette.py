"""The one palette: the colour of each emotion, and of groups without one, on a light and on a dark ground.

Six hues that stay apart under deuteranopia and protanopia (ΔE of at least 20 in CIELAB, simulated after Machado et al.
2009), each with a contrast of at least 3 to 1 on its ground; greys for what is no strong feeling. Colour is never
alone: the word stands beside it everywhere. The page's style sheet is made from here:

    python -m e2vsearch.palette > page/src/palette.css
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Colour(NamedTuple):
    """One colour as ``#rrggbb`` on a light and on a dark ground."""

    light: str
    dark: str


EMOTIONS: Mapping[str, Colour] = {
    "angry": Colour("#b3200f", "#d53d2b"),
    "disgusted": Colour("#6c9a52", "#a0cf81"),
    "fearful": Colour("#9a74d6", "#9965f9"),
    "happy": Colour("#b38c00", "#f4d659"),
    "sad": Colour("#2340c8", "#b3bdfd"),
    "surprised": Colour("#8a1673", "#b03ba8"),
    "neutral": Colour("#7d8590", "#98a1ac"),
    "other": Colour("#8a6d4f", "#bd9c78"),
    "unsure": Colour("#b4b9c1", "#636a73"),
    "too short": Colour("#d2d5da", "#484e56"),
}
"""By the name that is shown: the encoders' classes, and what stands in a name's place."""

SYNONYMS: Mapping[str, str] = {
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprised",
    "unknown": "other",
}

CATEGORIES: tuple[Colour, ...] = (
    Colour("#4477aa", "#6fa3d8"),
    Colour("#ee6677", "#f28391"),
    Colour("#228833", "#4fb85f"),
    Colour("#ccbb44", "#ddcf6a"),
    Colour("#66ccee", "#8fdcf5"),
    Colour("#aa3377", "#d86aa6"),
    Colour("#ee8866", "#f5a58a"),
    Colour("#332288", "#8d7ee0"),
    Colour("#44bb99", "#6fd3b6"),
    Colour("#bbcc33", "#d3e060"),
    Colour("#882255", "#c25d8d"),
    Colour("#99ddff", "#b7e8ff"),
)
"""For labels, values of metadata and clusters: Paul Tol's "bright", then from his "light" and "muted" what differs most
from those (SRON technical note, 2021)."""

GREY = Colour("#c9ccd1", "#4a4f56")
"""Of points in no cluster, without a label, or with a value too rare to have a colour."""

_TINTS = (0.0, 0.35, -0.3, 0.55, -0.5)  # towards white, or below 0 towards black


def colour_of(emotion: str | None) -> Colour:
    """Return the colour of an emotion by its name; of an encoder's own class that nothing here names, that of other.

    >>> colour_of("angry").light
    '#b3200f'
    """
    if emotion is None:
        return GREY
    return EMOTIONS.get(SYNONYMS.get(emotion, emotion), EMOTIONS["other"])


def tints(emotions: Sequence[str | None]) -> list[Colour]:
    """Return a colour for each of some clusters by its main emotion; those of one emotion get tints of its colour.

    >>> [each.light for each in tints(["sad", "sad", None])]
    ['#2340c8', '#7083db', '#4477aa']
    """
    bearers: dict[str | None, int] = {}
    found = []
    for emotion in emotions:
        nth = bearers.get(emotion, 0)
        bearers[emotion] = nth + 1
        if emotion is None:
            found.append(CATEGORIES[nth % len(CATEGORIES)])
            continue
        base = colour_of(emotion)
        amount = _TINTS[nth % len(_TINTS)]
        found.append(Colour(_mixed(base.light, amount), _mixed(base.dark, amount)))
    return found


def stylesheet() -> str:
    """Return the palette as the page's custom properties, light and dark, and a rule for each emotion."""
    lines = ["/* Made by `python -m e2vsearch.palette`; change it there. */"]
    for dark in (False, True):
        rules = [f"  --{_property(name)}: {colour[dark]};" for name, colour in EMOTIONS.items()]
        rules += [f"  --{_property(name)}: var(--{_property(of)});" for name, of in SYNONYMS.items() if not dark]
        rules += [f"  --category-{at}: {colour[dark]};" for at, colour in enumerate(CATEGORIES)]
        rules += [f"  --no-category: {GREY[dark]};"]
        block = "\n".join([":root {", *rules, "}"])
        if dark:
            indented = "\n".join(f"  {line}" for line in block.splitlines())
            block = f"@media (prefers-color-scheme: dark) {{\n{indented}\n}}"
        lines += ["", block]
    names = {**{name: name for name in EMOTIONS}, **SYNONYMS}
    for name, of in names.items():
        lines += ["", f'[data-emotion="{name}"] {{', f"  --emotion: var(--{_property(of)});", "}"]
    return "\n".join(lines) + "\n"


def _property(emotion: str) -> str:
    return f"emotion-{emotion.replace(' ', '-')}"


def _mixed(colour: str, amount: float) -> str:
    """Return a colour that share of the way to white, or, below 0, to black."""
    target = 255 if amount > 0 else 0
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + (target - part) * abs(amount)):02x}" for part in parts)


if __name__ == "__main__":
    sys.stdout.write(stylesheet())
