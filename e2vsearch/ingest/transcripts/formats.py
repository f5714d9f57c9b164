"""Transcript files are read as cues: speaker, text and time.

Formats:

* ``.srt`` and ``.vtt``: cues; of WebVTT also voices, ``<v Agent>``. Notes, styles and settings are passed over.
* ``.json`` of Whisper, faster-whisper, WhisperX and OpenAI's ``verbose_json``: ``segments`` of ``start``, ``end`` (s),
  ``text``, perhaps ``words``, ``speaker`` or ``channel``; also a bare list of them.
* ``.json`` of whisper.cpp: ``transcription`` of ``offsets`` (ms) and ``text``.
* ``.json`` of FunASR: ``sentence_info`` of ``start``, ``end`` (ms), ``text``, perhaps ``spk``.
* ``.json`` of Deepgram: ``results.channels`` of ``alternatives`` of ``words``.
* ``.json`` of AWS Transcribe: ``results.items``, perhaps with ``channel_label`` or ``speaker_label``.
* ``.txt``, and ``.json`` with nothing but ``text``: words without times.

Subtitles are read by forty lines of our own: pysubs2 (1.8) loses voices and takes a WebVTT note for speech, webvtt-py
(0.6) keeps one voice a cue, leaves ``&amp;`` as it is and refuses an ``.srt`` that does not begin with a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from math import isfinite
from pathlib import Path
from typing import Any

from e2vsearch.errors import AudioNotAFile, TranscriptError
from e2vsearch.files import read_regular

SUFFIXES = (".json", ".vtt", ".srt", ".txt")
"""Of transcripts, those that say most first."""

_MAX_BYTES = 64 * 1024 * 1024  # a day of word timestamps is 20 MB of JSON
_CLOCK = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMING = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}")
_ASIDE = re.compile(r"(NOTE|STYLE|REGION|WEBVTT)(\s|$)")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|\{\\[^{}]*\}")  # <i>, </c>, <00:01.000>, {\an8}
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Cue:
    """Consecutive words of one speaker."""

    start_s: float
    end_s: float
    text: str
    words: tuple[tuple[float, float, str], ...] = ()  # start_s, end_s and text of each, where the transcript has them
    channel: int | None = None  # where the transcript says so
    speaker: str | None = None  # whatever name it gives


@dataclass(frozen=True, slots=True)
class Transcript:
    """The transcript of one recording."""

    path: Path
    cues: tuple[Cue, ...] = ()  # by start
    untimed: str = ""  # instead of cues: words without times


def read(path: Path) -> Transcript:
    """Read a transcript.

    Raises:
        TranscriptError: it cannot be read, or is of none of the shapes above.
    """
    text = _text(path)
    if path.suffix.lower() == ".txt":
        return Transcript(path, untimed=text.strip())
    try:
        transcript = _from_json(path, text) if path.suffix.lower() == ".json" else _from_subtitles(path, text)
    except (ValueError, OverflowError, RecursionError) as error:  # a time of 200,000 digits, say
        raise TranscriptError(f"{path}: a number in it is out of range - correct its times, or make it anew") from error
    cues = tuple(sorted((cue for cue in transcript.cues if cue.text.strip()), key=lambda cue: cue.start_s))
    for cue in cues:
        if not (isfinite(cue.start_s) and isfinite(cue.end_s) and 0 <= cue.start_s <= cue.end_s):
            raise TranscriptError(
                f"{path}: {cue.text.strip()[:30]!r} lasts from {cue.start_s:g} s to {cue.end_s:g} s - correct its times"
            )
    return Transcript(path, cues, transcript.untimed)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise TranscriptError(f"{path}: over {_MAX_BYTES >> 20} MiB are no transcript of one recording - remove it")
        data = read_regular(path)
    except AudioNotAFile as error:
        raise TranscriptError(str(error)) from error
    except OSError as error:
        raise TranscriptError(f"{path}: cannot be read: {error.strerror or error} - check its permissions") from error
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise TranscriptError(
            f"{path}: is not UTF-8 - convert it: iconv -f GB18030 -t UTF-8, or from what it is"
        ) from error


# ------------------------------------------------------------------------------------------------------- subtitles


def _from_subtitles(path: Path, text: str) -> Transcript:
    cues = tuple(_subtitles(text))
    if not cues and text.strip() and not text.startswith("WEBVTT"):  # of a recording without speech there are none
        raise TranscriptError(f"{path}: has no line such as 00:00:01,000 --> 00:00:04,000 - make it anew, or remove it")
    return Transcript(path, cues)


def _subtitles(text: str) -> Iterator[Cue]:
    """Cues of SRT and WebVTT alike: a line of times, and all that follows up to the next, less its number or name."""
    timing: re.Match[str] | None = None
    spoken: list[str] = []
    aside = False  # in a note, style or region
    before = ""
    for line in re.split(r"\r\n|\r|\n", text):
        found = _TIMING.match(line)
        if found is not None:
            last, gap = (spoken[-1:] or [""])[0].strip(), len(spoken) > 1 and not spoken[-2].strip()
            if last.isdigit() or (last and gap):
                spoken.pop()
            yield from _voices(timing, spoken)
            timing, spoken, aside = found, [], False
        elif not line.strip():
            spoken.append("")
            aside = False
        elif aside or (not before.strip() and _ASIDE.match(line)):
            aside = True
        else:
            spoken.append(line)  # some writers leave an empty line within a cue
        before = line
    yield from _voices(timing, spoken)


def _voices(timing: re.Match[str] | None, lines: list[str]) -> Iterator[Cue]:
    """One cue a voice; two voices in one block share its time by the length of what they say."""
    if timing is None:
        return
    start_s, end_s = _seconds(timing.groups()[:4]), _seconds(timing.groups()[4:])
    before, *rest = _VOICE.split("\n".join(lines))
    turns = [(None, before), *zip(rest[::2], rest[1::2], strict=True)]
    said = [(speaker, unescape(_TAG.sub("", words))) for speaker, words in turns]
    said = [(speaker, words) for speaker, words in said if words.strip()]
    whole = sum(len(words) for _, words in said)
    done = 0
    for speaker, words in said:
        first, last = (start_s + (end_s - start_s) * at / whole for at in (done, done + len(words)))
        yield Cue(first, last, words, speaker=unescape(speaker).strip() if speaker else None)
        done += len(words)


def _seconds(clock: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = clock
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(f"{seconds}.{fraction}")


# ------------------------------------------------------------------------------------------------------------ JSON


def _from_json(path: Path, text: str) -> Transcript:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TranscriptError(f"{path}: is no JSON: {str(error)[:80]} - make it anew") from error
    whole = data if isinstance(data, dict) else {}
    try:
        for shape in _SHAPES:
            cues = shape(data)
            if cues is not None:
                return Transcript(path, tuple(cues))
        return Transcript(path, untimed=whole["text"].strip())
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise TranscriptError(
            f"{path}: is of no shape that is read here, such as Whisper's 'segments' - convert it to .srt or .vtt"
        ) from error


def _whisper(data: Any) -> Iterator[Cue] | None:
    """Whisper, faster-whisper, WhisperX, ``verbose_json``; times in seconds."""
    whole = data if isinstance(data, dict) else {"segments": data}
    segments, words = whole.get("segments"), whole.get("words")
    if segments and not any("sentence_info" in segment for segment in segments):
        return (_cue(segment) for segment in segments)
    if words:  # asked for without segments
        return (Cue(*word, (word,)) for word in _timed(words, 0.0))
    return iter(()) if segments == [] else None


def _cue(segment: Mapping[str, Any]) -> Cue:
    start_s, speaker = float(segment["start"]), segment.get("speaker")
    return Cue(
        start_s,
        float(segment["end"]),
        str(segment["text"]),
        tuple(_timed(segment.get("words") or (), start_s)),
        _channel(segment.get("channel")),
        None if speaker is None else str(speaker),
    )


def _timed(words: Any, start_s: float) -> Iterator[tuple[float, float, str]]:
    """Words with their times; WhisperX gives none to some, such as numbers: those are said where the last one ended."""
    end_s = start_s
    for word in words:
        start_s = end_s if word.get("start") is None else float(word["start"])
        end_s = start_s if word.get("end") is None else float(word["end"])
        text = str(word.get("punctuated_word") or word.get("word") or word.get("text") or "")
        if text.strip():
            yield start_s, end_s, text


def _whisper_cpp(data: Any) -> Iterator[Cue] | None:
    pieces = data.get("transcription") if isinstance(data, dict) else None
    if not pieces:
        return None
    return (Cue(piece["offsets"]["from"] / 1000, piece["offsets"]["to"] / 1000, piece["text"]) for piece in pieces)


def _funasr(data: Any) -> Iterator[Cue] | None:
    results = data if isinstance(data, list) else [data]
    if not results or not all(isinstance(each, dict) and "sentence_info" in each for each in results):
        return None
    return (
        Cue(each["start"] / 1000, each["end"] / 1000, each["text"], speaker=str(each["spk"]) if "spk" in each else None)
        for result in results
        for each in result["sentence_info"]
    )


def _deepgram(data: Any) -> Iterator[Cue] | None:
    channels = data.get("results", {}).get("channels") if isinstance(data, dict) else None
    if not channels:
        return None
    return (
        Cue(*word, (word,), at)
        for at, channel in enumerate(channels)
        for word in _timed(channel["alternatives"][0]["words"], 0.0)
    )


def _aws(data: Any) -> Iterator[Cue] | None:
    items = data.get("results", {}).get("items") if isinstance(data, dict) else None
    if not items:
        return None
    return _aws_cues(items)


def _aws_cues(items: list[dict[str, Any]]) -> Iterator[Cue]:
    waiting: Cue | None = None
    for item in items:
        text = str(item["alternatives"][0]["content"])
        if "start_time" not in item:  # punctuation
            if waiting is not None:
                whole = waiting.text + text
                words = ((waiting.start_s, waiting.end_s, whole),)
                waiting = Cue(waiting.start_s, waiting.end_s, whole, words, waiting.channel, waiting.speaker)
            continue
        if waiting is not None:
            yield waiting
        start_s, end_s = float(item["start_time"]), float(item["end_time"])
        channel = _channel(item.get("channel_label"))
        waiting = Cue(start_s, end_s, text, ((start_s, end_s, text),), channel, item.get("speaker_label"))
    if waiting is not None:
        yield waiting


def _channel(named: Any) -> int | None:
    """``0`` or ``"ch_0"`` → 0."""
    if named is None:
        return None
    digits = _DIGITS.search(str(named))
    return int(digits.group()) if digits else None


_SHAPES: tuple[Callable[[Any], Iterator[Cue] | None], ...] = (_whisper, _whisper_cpp, _funasr, _deepgram, _aws)
