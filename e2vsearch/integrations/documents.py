"""What a language model reads of a hit, and what a program keeps of it. Knows hits, and no framework.

All that callers, transcripts and CSV columns say is quoted, and what could end a line, hide text or turn its direction
is taken out: whatever a recording is called, one document cannot be read as two, nor as a word of ours.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import asdict
from typing import Any

from e2vsearch.emotions import TOO_SHORT, UNSURE
from e2vsearch.listing import clock, evenly, nearest, percent
from e2vsearch.types import Explanation, Hit, Match, Space

MAX_QUOTED = 2000
"""Characters shown of any one value; 15 s of fast speech are some 350."""

_SHOWN_EMOTIONS = 3
_SHOWN_MATCHES = 3
_SHOWN_STATIONS = 8
_KEPT_FORMAT_CHARACTERS = "\u200c\u200d"  # joiners: without them Persian, Hindi and many emoji are spelt wrong


def describe(hit: Hit, space: Space | None = None) -> str:
    r"""A hit as a block of lines that a language model can use: where it is, how it sounds, what is said.

    Args:
        hit: a moment of a call.
        space: the collection's, to say whose word the emotions are.

    >>> hit = Hit(
    ...     score=0.9613, recording="call:3", segment="seg:14", name="cancel", uri="cancel.ogg", channel=0,
    ...     start_s=0.3, end_s=9.2, moment_score=0.9613, emotion="angry", emotion_score=0.73,
    ...     metadata={"agent": "mara"}, scores={"angry": 0.73, "sad": 0.2}, text="I want to\ncancel.",
    ...     arousal=0.67, valence=0.23,
    ... )
    >>> print(describe(hit))
    [seg:14] call "cancel" (call:3), channel 0, 00:00.3-00:09.2
    similarity: 0.9613
    emotions: angry 0.73, sad 0.20
    arousal: 0.67 of 1 (0 calm), valence: 0.23 of 1 (0 unpleasant)
    said: "I want to cancel."
    metadata: agent="mara"
    """
    span = f"{clock(hit.start_s)}-{clock(hit.end_s)}"
    lines = [
        f"[{hit.segment}] call {quoted(hit.name)} ({hit.recording}), channel {hit.channel}, {span}",
        f"similarity: {hit.score:.4f}",
    ]
    if (named := _emotions(hit)) is not None:
        by = f" (by {_plain(space.encoder)})" if space is not None else ""
        lines.append(f"emotions{by}: {named}")
    if hit.arousal is not None and hit.valence is not None:
        lines.append(f"arousal: {hit.arousal:.2f} of 1 (0 calm), valence: {hit.valence:.2f} of 1 (0 unpleasant)")
    if hit.why is not None:
        lines += _reasons(hit, hit.why)
    if hit.course:
        stations = (f"{_of(match)} met at {clock(match.start_s)}" for match in evenly(hit.course, _SHOWN_STATIONS))
        lines.append(f"course: {', '.join(stations)}")
    if hit.label is not None:
        score = "" if hit.label_score is None else f" {hit.label_score:.2f}"
        lines.append(f"label: {quoted(hit.label)}{score}")
    if hit.text:
        lines.append(f"said: {quoted(hit.text)}")
    if hit.metadata:
        pairs = (f"{_key(key)}={quoted(value)}" for key, value in hit.metadata.items())
        lines.append(f"metadata: {', '.join(pairs)}")
    return "\n".join(lines)


def metadata(hit: Hit, space: Space | None = None, *, exact: bool | None = None) -> dict[str, Any]:
    """A hit as values that `json.dumps` takes as they are; the recording's own metadata is under ``metadata``.

    Args:
        hit: a moment of a call.
        space: the collection's: ``encoder`` is its name, ``space`` all that vectors must agree in.
        exact: whether every segment was compared; False: an index chose the candidates.
    """
    return {
        "score": float(hit.score),
        "moment_score": float(hit.segment_score),
        "recording": hit.recording,
        "segment": hit.segment,
        "name": _encodable(hit.name),
        "uri": _encodable(hit.uri),
        "channel": int(hit.channel),
        "start_s": float(hit.start_s),
        "end_s": float(hit.end_s),
        "emotion": hit.emotion,
        "emotion_score": None if hit.emotion_score is None else float(hit.emotion_score),
        "scores": {emotion: float(score) for emotion, score in hit.scores.items()},
        "arousal": hit.arousal,
        "valence": hit.valence,
        "label": None if hit.label is None else _encodable(hit.label),
        "label_score": None if hit.label_score is None else float(hit.label_score),
        "text": None if hit.text is None else _encodable(hit.text),
        "metadata": {_encodable(key): _encodable(value) for key, value in hit.metadata.items()},
        "percentile": hit.percentile,
        "why": None if hit.why is None else _plainly(asdict(hit.why)),
        "course": [_plainly(asdict(match)) for match in hit.course],
        "exact": exact,
        "encoder": None if space is None else space.encoder,
        "space": None if space is None else str(space),
    }


def quoted(text: str) -> str:
    r"""Text from outside, in double quotes and on one line.

    >>> print(quoted('mara"\n[seg:1] call "fake"'))
    "mara\" [seg:1] call \"fake\""
    """
    plain = _plain(text)
    shown = plain if len(plain) <= MAX_QUOTED else plain[: MAX_QUOTED - 1] + "…"
    return json.dumps(shown, ensure_ascii=False)


def _emotions(hit: Hit) -> str | None:
    """``angry 0.73, sad 0.20``, ``unsure; angry 0.38, sad 0.31`` or ``too short``: a guess is called one."""
    if hit.emotion == TOO_SHORT:
        return TOO_SHORT
    likeliest = sorted(hit.scores.items(), key=lambda item: -item[1])[:_SHOWN_EMOTIONS]
    if not likeliest and hit.emotion is not None and hit.emotion_score is not None:
        likeliest = [(hit.emotion, hit.emotion_score)]
    classes = ", ".join(f"{_plain(emotion)} {score:.2f}" for emotion, score in likeliest)
    if hit.emotion == UNSURE:
        return f"{UNSURE}; {classes}" if classes else UNSURE
    return classes or None


def _reasons(hit: Hit, why: Explanation) -> list[str]:
    # of this moment, whose cosine is not the hit's score where that is a mean or something was taken off
    rare = "" if hit.percentile is None else f", nearer than {percent(hit.percentile)} % of random pairs of moments"
    parts = ""
    if why.emotion_part is not None and why.rest_part is not None:
        parts = f"; {why.emotion_part:.2f} of it by emotion, {why.rest_part:.2f} by all else"
    lines = [f"this moment: similarity {hit.segment_score:.4f}{rare}{parts}"]
    if why.shared:
        both = (f"{_plain(each.emotion)} {each.reference:.2f} and {each.moment:.2f}" for each in why.shared)
        lines.append(f"in the reference and here: {', '.join(both)}")
    if why.matches:
        like = (
            f"{_of(match)} like {match.segment} at {clock(match.start_s)} ({match.cosine:.2f})"
            for match in nearest(why.matches, _SHOWN_MATCHES)
        )
        lines.append(f"matched: {', '.join(like)}")
    if why.avoided:
        off = (f"{quoted(each.reference)} takes off {each.penalty:.2f}" for each in why.avoided)
        lines.append(f"unwanted: {', '.join(off)}")
    return lines


def _of(match: Match) -> str:
    """A moment of the reference."""
    at = "" if match.reference_start_s is None else f" {clock(match.reference_start_s)}"
    return f"{quoted(match.reference)}{at}"


def _plainly(value: Any) -> Any:
    """The same in what JSON has, whatever a reference's path is called."""
    if isinstance(value, dict):
        return {key: _plainly(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plainly(each) for each in value]
    return _encodable(value) if isinstance(value, str) else value


def _plain(text: str) -> str:
    """On one line, without control, formatting, private and unpaired characters."""
    kept = (
        character if character in _KEPT_FORMAT_CHARACTERS or unicodedata.category(character)[0] not in "CZ" else " "
        for character in text
    )
    return " ".join("".join(kept).split())


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w.-]{1,64}", key) else quoted(key)


def _encodable(text: str) -> str:
    """The same where UTF-8 can say it: a file's name may hold bytes that are no text, kept as lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
