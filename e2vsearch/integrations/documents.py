"""What a language model reads of a hit, and what a program keeps of it.

Transcripts, file names and metadata are quoted, and what could end a line, hide text or turn its direction is taken
out: whatever a recording is called, one document cannot be read as two, nor as text of this module.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import asdict
from typing import Any, Literal, get_args

from e2vsearch.display import clock, evenly, nearest, percent
from e2vsearch.emotions import TOO_SHORT, UNSURE
from e2vsearch.errors import SettingsError
from e2vsearch.types import Explanation, Hit, Match, Space

DocumentFormat = Literal["lines", "rcs"]
"""The form of a document's text: `describe`'s lines, or one line of the Real-time Context Standard, see `perceive`."""

MAX_QUOTED = 2000
"""Characters shown of any one value; 15 s of fast speech are some 350."""

_SHOWN_EMOTIONS = 3
_LEAST_SHOWN = 0.005  # that is 0.01 once it is rounded
_SHOWN_MATCHES = 3
_SHOWN_STAGES = 8
_KEPT_FORMAT_CHARACTERS = "\u200c\u200d"  # joiners: without them Persian, Hindi and many emoji are spelt wrong


def describe(hit: Hit, space: Space | None = None) -> str:
    r"""Return a hit as lines for a language model: where it is, its emotions, its transcript.

    Args:
        hit: a segment of a recording.
        space: the collection's, to name the encoder that the emotions are by.

    Example:
        >>> hit = Hit(
        ...     score=0.9613, recording="call:3", segment="seg:14", name="cancel", uri="cancel.ogg", channel=0,
        ...     start_s=0.3, end_s=9.2, segment_score=0.9613, emotion="angry", emotion_score=0.73,
        ...     metadata={"queue": "billing"}, scores={"angry": 0.73, "sad": 0.2}, text="I want to\ncancel.",
        ...     arousal=0.67, valence=0.23,
        ... )
        >>> print(describe(hit))
        [seg:14] recording "cancel" (call:3), channel 0, 00:00.3-00:09.2
        similarity: 0.9613
        emotions: angry 0.73, sad 0.20
        arousal: 0.67 of 1 (0 calm), valence: 0.23 of 1 (0 unpleasant)
        text: "I want to cancel."
        metadata: queue="billing"
    """
    times = f"{clock(hit.start_s)}-{clock(hit.end_s)}"
    lines = [
        f"[{hit.segment}] recording {quoted(hit.name)} ({hit.recording}), channel {hit.channel}, {times}",
    ]
    if hit.score is not None:
        lines.append(f"similarity: {hit.score:.4f}")
    if (named := _emotions(hit)) is not None:
        by = f" (by {_plain(space.encoder)})" if space is not None else ""
        lines.append(f"emotions{by}: {named}")
    if hit.arousal is not None and hit.valence is not None:
        lines.append(f"arousal: {hit.arousal:.2f} of 1 (0 calm), valence: {hit.valence:.2f} of 1 (0 unpleasant)")
    if hit.why is not None:
        lines += _reasons(hit, hit.why)
    if hit.alignment:
        lines.append(f"alignment: {', '.join(_aligned(match) for match in evenly(hit.alignment, _SHOWN_STAGES))}")
    if hit.label is not None:
        score = "" if hit.label_score is None else f" {hit.label_score:.2f}"
        lines.append(f"label: {quoted(hit.label)}{score}")
    if hit.text:
        lines.append(f"text: {quoted(hit.text)}")
    if hit.metadata:
        pairs = (f"{_key(key)}={quoted(value)}" for key, value in hit.metadata.items())
        lines.append(f"metadata: {', '.join(pairs)}")
    return "\n".join(lines)


def perceive(hit: Hit) -> str:
    r"""Return what was said in a segment, headed by how, in the notation of the Real-time Context Standard.

    Pipecat's standard (RCS 0.1, an alpha) has models of a voice agent pass on how a user sounded, in the text that they
    pass anyway. Its form of perception is taken from the examples that are published with Pipecat's tone models,
    https://huggingface.co/pipecat-ai/tone-models; of the standard itself,
    https://docs.pipecat.ai/api-reference/standards/real-time-context-standard, only the introduction could be read
    when this was written, so that names of emotions are the encoder's and no vocabulary of the standard.

    A producer that is unsure writes nothing: a segment that is unsure or too short has its words alone. Where, when and
    how alike it is says the document's metadata.

    Example:
        >>> hit = Hit(
        ...     score=0.9613, recording="call:3", segment="seg:14", name="cancel", uri="cancel.ogg", channel=0,
        ...     start_s=0.3, end_s=9.2, segment_score=0.9613, emotion="angry", emotion_score=0.73,
        ...     metadata={}, scores={"angry": 0.73, "sad": 0.2, "happy": 0.001}, text="I want to\ncancel.",
        ... )
        >>> print(perceive(hit))
        ([emotion angry=0.73, sad=0.20]) I want to cancel.
    """
    parts = []
    if hit.emotion not in (None, UNSURE, TOO_SHORT):
        likely = [f"{_symbol(emotion)}={score:.2f}" for emotion, score in _likeliest(hit) if score >= _LEAST_SHOWN]
        parts = [f"([emotion {', '.join(likely)}])"] if likely else []
    if hit.text:
        parts.append(_cut(_plain(hit.text)).replace("([", "( ["))  # words must not read as a head of their own
    return " ".join(parts)


def text_of(hit: Hit, space: Space | None = None, document_format: DocumentFormat = "lines") -> str:
    """Return the text of a hit's document, in that format; its id where the format has nothing to say of it."""
    return (perceive(hit) or hit.segment) if document_format == "rcs" else describe(hit, space)


def check_format(document_format: str) -> None:
    """See that there is such a format.

    Raises:
        SettingsError: there is none.
    """
    if document_format not in get_args(DocumentFormat):
        raise SettingsError(f"documents are {' or '.join(get_args(DocumentFormat))}, not {document_format!r}")


def metadata(hit: Hit, space: Space | None = None, *, exact: bool | None = None) -> dict[str, Any]:
    """Return the fields of a hit as values that `json.dumps` takes; the recording's metadata is under ``metadata``.

    Args:
        hit: a segment of a recording.
        space: the collection's: ``encoder`` is its name, ``space`` all that vectors must agree in.
        exact: whether every segment was compared; False: an index chose the candidates.
    """
    of_space = {"encoder": None if space is None else space.encoder, "space": None if space is None else str(space)}
    return {**json_values(asdict(hit)), "exact": exact, **of_space}


def json_values(value: Any) -> Any:
    """Return a value as JSON has it: a file's name may hold bytes that are no text, kept as lone surrogates."""
    if isinstance(value, dict):
        return {json_values(key): json_values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(each) for each in value]
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def quoted(text: str) -> str:
    r"""Return text from outside in double quotes and on one line.

    Example:
        >>> print(quoted('mara"\n[seg:1] recording "fake"'))
        "mara\" [seg:1] recording \"fake\""
    """
    return json.dumps(_cut(_plain(text)), ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 1] + "…"


def _symbol(name: str) -> str:
    """Return the name of an emotion as one word."""
    return re.sub(r"[^\w-]+", "_", _plain(name))


def _likeliest(hit: Hit) -> list[tuple[str, float]]:
    """Return the likeliest classes with their probabilities, the most probable first."""
    likeliest = sorted(hit.scores.items(), key=lambda item: -item[1])[:_SHOWN_EMOTIONS]
    if not likeliest and hit.emotion is not None and hit.emotion_score is not None:
        likeliest = [(hit.emotion, hit.emotion_score)]
    return likeliest


def _emotions(hit: Hit) -> str | None:
    """Return ``angry 0.73, sad 0.20``, ``unsure; angry 0.38, sad 0.31`` or ``too short``: a guess is called one."""
    if hit.emotion == TOO_SHORT:
        return TOO_SHORT
    classes = ", ".join(f"{_plain(emotion)} {score:.2f}" for emotion, score in _likeliest(hit))
    if hit.emotion == UNSURE:
        return f"{UNSURE}; {classes}" if classes else UNSURE
    return classes or None


def _reasons(hit: Hit, why: Explanation) -> list[str]:
    # of this segment, whose cosine is not the hit's score where that is a mean or something was taken off
    rare = "" if hit.percentile is None else f", nearer than {percent(hit.percentile)} % of random pairs of segments"
    lines = [f"this segment: similarity {hit.segment_score:.4f}{rare}"]
    if why.shared:
        both = (f"{_plain(each.emotion)} {each.reference:.2f} and {each.segment:.2f}" for each in why.shared)
        lines.append(f"in the reference and here: {', '.join(both)}")
    if why.matches:
        best = nearest(why.matches, _SHOWN_MATCHES)
        lines.append(f"matched: {', '.join(f'{_aligned(match)} ({match.cosine:.2f})' for match in best)}")
    if why.avoided:
        penalties = (f"{quoted(each.reference)} takes off {each.penalty:.2f}" for each in why.avoided)
        lines.append(f"avoided: {', '.join(penalties)}")
    return lines


def _aligned(match: Match) -> str:
    """Return ``"angry.wav" 00:03.0 with seg:14 at 12:41.2``; a name has no time."""
    at = "" if match.reference_start_s is None else f" {clock(match.reference_start_s)}"
    return f"{quoted(match.reference)}{at} with {match.segment} at {clock(match.start_s)}"


def _plain(text: str) -> str:
    """Return it on one line, without control, formatting, private and unpaired characters."""
    kept = (
        character if character in _KEPT_FORMAT_CHARACTERS or unicodedata.category(character)[0] not in "CZ" else " "
        for character in text
    )
    return " ".join("".join(kept).split())


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w.-]{1,64}", key) else quoted(key)
