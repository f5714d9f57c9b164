"""The palette: hues stay apart for colour-blind eyes, are seen on their ground, and the page has the same."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from e2vsearch import palette

SOURCES = Path(__file__).resolve().parent.parent / "page" / "src"
HUES = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
GROUNDS = {"light": "#ffffff", "dark": "#1c1e20"}
# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB
SIGHT = {
    "trichromat": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: str) -> NDArray[np.float64]:
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB of linear RGB, D65."""
    scaled = XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_emotions_differ_for_every_eye(scheme: str, sight: str) -> None:
    seen = {name: lab(SIGHT[sight] @ linear(getattr(palette.EMOTIONS[name], scheme))) for name in HUES}
    near = {
        f"{a} {b}": round(float(np.linalg.norm(seen[a] - seen[b])), 1)
        for a, b in combinations(HUES, 2)
        if np.linalg.norm(seen[a] - seen[b]) < 20
    }
    assert near == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_emotions_are_seen_on_their_ground(scheme: str) -> None:
    """WCAG 2.1, 1.4.11: 3 to 1 for what a picture is understood by."""

    def contrast(colour: str) -> float:
        a, b = (float(linear(each) @ np.array([0.2126, 0.7152, 0.0722])) for each in (colour, GROUNDS[scheme]))
        return (max(a, b) + 0.05) / (min(a, b) + 0.05)

    assert {name for name in HUES if contrast(getattr(palette.EMOTIONS[name], scheme)) < 3} == set()


def test_names_of_other_encoders_have_their_emotion_s_colour() -> None:
    assert palette.colour_of("anger") == palette.colour_of("angry")
    assert palette.colour_of("bored") == palette.colour_of("<unk>") == palette.EMOTIONS["other"]
    assert palette.colour_of(None) == palette.GREY


def test_clusters_of_one_emotion_have_tints_of_it() -> None:
    found = palette.tints(["sad", "angry", "sad", None, "sad", None])
    assert len({*found}) == 6
    assert found[0] == palette.EMOTIONS["sad"]
    assert found[1] == palette.EMOTIONS["angry"]
    assert found[3:6:2] == list(palette.CATEGORIES[:2])


def test_the_page_has_the_same_colours() -> None:
    written = (SOURCES / "palette.css").read_text(encoding="utf-8")
    assert written == palette.stylesheet(), "python -m e2vsearch.palette > page/src/palette.css"
