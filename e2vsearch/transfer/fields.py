"""Kinds of values in the files of an export, and the check of an object's fields against them."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2vsearch.catalog.text_search import MAX_CHARACTERS
from e2vsearch.errors import ExportError
from e2vsearch.policy import ROLES
from e2vsearch.types import MAX_NAME

MAX_CHANNELS = 32
_MOST_S = 1e8  # seconds: three years
_MOST_LINE = 16 << 20  # bytes
_SHOWN = 60  # characters of a value


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value."""

    words: str  # "a whole number from 0 to 31"
    holds: Callable[[Any], bool]


def whole(least: int, most: int) -> Kind:
    """Return the kind of whole numbers in a range."""
    return Kind(
        f"a whole number from {least:,} to {most:,}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
    )


def number(least: float, most: float) -> Kind:
    """Return the kind of numbers in a range."""
    return Kind(
        f"a number from {least:,g} to {most:,g}",
        lambda value: (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and least <= value <= most
        ),
    )


def text(most: int, *, controls: bool = False, least: int = 0) -> Kind:
    """Return the kind of texts that are not too long, without control characters unless these are allowed.

    A file may have them in its name, so those of recordings may; what is printed has escapes in their place.
    """

    def holds(value: Any) -> bool:
        if not isinstance(value, str) or not least <= len(value) <= most:
            return False
        if value.isascii() and value.isprintable():
            return True
        kinds = {unicodedata.category(character) for character in value}
        return "Cs" not in kinds and "\0" not in value and (controls or "Cc" not in kinds)

    what = "" if controls else " without control characters"
    return Kind(f"a text of {least:,} to {most:,} characters{what}", holds)


def list_of(kind: Kind, most: int) -> Kind:
    """Return the kind of lists of another kind."""
    return Kind(
        f"a list of at most {most:,}, each {kind.words}",
        lambda value: isinstance(value, list) and len(value) <= most and all(map(kind.holds, value)),
    )


def table(key: Kind, value: Kind) -> Kind:
    """Return the kind of objects with keys and values of other kinds."""
    return Kind(
        f"an object whose keys are each {key.words}, and its values {value.words}",
        lambda given: isinstance(given, dict) and all(map(key.holds, given)) and all(map(value.holds, given.values())),
    )


def object_of(kinds: Mapping[str, Kind]) -> Kind:
    """Return the kind of objects with these keys and no others, each value of its kind."""
    return Kind(
        f"an object with {', '.join(kinds)}",
        lambda given: (
            isinstance(given, dict)
            and given.keys() == kinds.keys()
            and all(kind.holds(given[name]) for name, kind in kinds.items())
        ),
    )


def span(most: float) -> Kind:
    """Return the kind of stretches of time: a start and a later end, in seconds."""
    second = number(0.0, most)
    return Kind(
        "a start and a later end in seconds",
        lambda given: (
            isinstance(given, list) and len(given) == 2 and all(map(second.holds, given)) and given[0] < given[1]
        ),
    )


def optional(kind: Kind) -> Kind:
    """Return the kind that may also be null."""
    return Kind(f"{kind.words}, or null", lambda value: value is None or kind.holds(value))


def matching(pattern: str, words: str) -> Kind:
    """Return the kind of texts that match a pattern as a whole."""
    compiled = re.compile(pattern)
    return Kind(words, lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None)


def _is_date(value: Any) -> bool:
    try:
        date = datetime.fromisoformat(value)
        return date.tzinfo is not None and date.astimezone(UTC).year >= 1
    except (TypeError, ValueError, OverflowError):
        return False


_DATE = Kind("a date and time with its offset from UTC", _is_date)
_BOOLEAN = Kind("true or false", lambda value: isinstance(value, bool))
_OBJECT = Kind("an object", lambda value: isinstance(value, dict))
LABEL = text(MAX_NAME, least=1)
_CHANNEL = whole(0, MAX_CHANNELS - 1)
_SECONDS = number(0.0, _MOST_S)
_ROLE = Kind(f"one of {', '.join(ROLES)}, or null", lambda value: value is None or value in ROLES)

RECORDING = {
    "id": matching(r"call:\d{1,18}", "an id such as call:45"),
    "uri": text(8192, controls=True, least=1),
    "name": text(1024, controls=True),
    "content_sha256": matching("[0-9a-f]{64}", "a SHA-256"),
    "size_bytes": whole(0, (1 << 63) - 1),
    "mtime_ns": whole(-(1 << 63), (1 << 63) - 1),
    "recorded_at": _DATE,
    "added_at": _DATE,
    "duration_s": _SECONDS,
    "channels": whole(1, MAX_CHANNELS),
    "sampling_rate_hz": whole(1, 10_000_000),
    "format": text(64),
    "note": text(4096),
    "metadata": table(text(255, least=1), text(1 << 20, controls=True)),
}
_SHARE = number(0.0, 1.0)
_COUNT = optional(whole(0, (1 << 31) - 1))
_SPANS = list_of(span(_MOST_S), 1 << 20)
_CHANNEL_DYNAMICS = {"channel": _CHANNEL, "talk_share": _SHARE, "turns": _COUNT, "interruptions": _COUNT}
_CHANNEL_DYNAMICS["longest_turn_s"] = optional(_SECONDS)
_DYNAMICS = {
    "talk_share": _SHARE,
    "silence_share": _SHARE,
    "longest_silence_s": _SECONDS,
    "overtalk": optional(_SHARE),
    "interruptions": _COUNT,
    "turns": _COUNT,
    "by_channel": list_of(object_of(_CHANNEL_DYNAMICS), MAX_CHANNELS),
    "overlaps": _SPANS,
    "silences": _SPANS,
}
RECORDING_OPTIONAL = {"roles": optional(list_of(_ROLE, MAX_CHANNELS)), "dynamics": optional(object_of(_DYNAMICS))}
SEGMENT = {"recording": RECORDING["id"], "channel": _CHANNEL, "start_s": _SECONDS, "end_s": _SECONDS}
SEGMENT_OPTIONAL = {"level_db": optional(number(-1000, 1000)), "text": text(MAX_CHARACTERS, controls=True)}
_NAMED = {"name": LABEL, "created_at": _DATE}
NAMED_VECTORS = {**_NAMED, "dim": whole(1, 1 << 16)}
CLASSIFIER = {
    **_NAMED,
    "version": whole(1, (1 << 31) - 1),
    "labels": list_of(LABEL, 1000),
    "report": _OBJECT,
    "min_score": optional(number(0.0, 1.0)),
}
PROJECTION = {**_NAMED, "kind": text(16, least=1), "revision": text(64, least=1), "report": _OBJECT, "used": _BOOLEAN}


def example(segments: int) -> Mapping[str, Kind]:
    """Return the fields of an example of a label, in an export of so many segments."""
    return {
        "label": LABEL,
        "segment": optional(whole(0, segments - 1)),
        "source": text(8192, controls=True),
        "speaker": optional(text(8192, controls=True)),
        "created_at": _DATE,
    }


def prediction(segments: int) -> Mapping[str, Kind]:
    """Return the fields of a classifier's prediction, in an export of so many segments."""
    return {"segment": whole(0, segments - 1), "label": LABEL, "score": number(0.0, 1.0)}


def check_fields(given: Any, required: Mapping[str, Kind], also: Mapping[str, Kind], where: str) -> None:
    """Check that an object has all of its fields, each of its kind, and no other.

    Raises:
        ExportError: it has not; the message names the file, the row and the field.
    """
    if not isinstance(given, dict):
        raise ExportError(f"{where} is no object of JSON - export again")
    for name, kind in required.items():
        if name not in given:
            raise ExportError(f"{where} has no {name} - export again")
        if not kind.holds(given[name]):
            raise _wrong(where, name, kind, given[name])
    for name in given.keys() - required.keys():
        if name not in also:
            raise ExportError(f"{where} has {name!r:.{_SHOWN}}, which no export of this format has - export again")
        if not also[name].holds(given[name]):
            raise _wrong(where, name, also[name], given[name])


def _wrong(where: str, name: str, kind: Kind, value: Any) -> ExportError:
    return ExportError(f"{where}: {name} must be {kind.words}, not {value!r:.{_SHOWN}} - export again")


def parsed_lines(path: Path) -> Iterator[tuple[int, int, Any]]:
    """Yield of each line of JSON its number, its first byte, and its value.

    Raises:
        ExportError: a line is too long, or no JSON.
    """
    with path.open("rb") as file:
        at = 0
        for row, content in enumerate(iter(lambda: file.readline(_MOST_LINE + 1), b""), 1):
            if len(content) > _MOST_LINE:
                raise ExportError(f"{path} line {row} is longer than {_MOST_LINE >> 20} MB - export again")
            yield row, at, parsed(content, f"{path} line {row}")
            at += len(content)


def parsed(content: bytes, where: str) -> Any:
    """Parse JSON, in which no number may be NaN or infinite.

    Raises:
        ExportError: it is none.
    """
    try:
        return json.loads(content.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{where} is no JSON ({str(error)[:_SHOWN] or 'nested too deep'}) - export again") from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
