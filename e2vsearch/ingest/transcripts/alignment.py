"""Transcripts are matched to recordings by name, and their words to segments by time (``--transcripts DIR``).

By name: the transcript's path below DIR, without its suffix, is how the recording's path ends, with its own suffix or
without. ``DIR/monday/a.srt`` is of ``/calls/monday/a.wav``, and ``DIR/a.srt`` of any ``a.wav`` (DIR may be the audio
folder itself). Where there are several, the one that says most is taken: JSON, WebVTT, SRT, plain text.

By time: each word goes to the segment that it overlaps most. A transcript without word times has its cues' words
spread over each cue by their length, so a cue that spans two segments is split between them in proportion. Speech
recognition and speech detection never agree to the tenth of a second: a word in no segment goes to the nearest one
that its cue overlaps, else to the nearest within a second, else it is left out and counted.

By channel: a cue that names one goes there alone. A speaker's cues go to the channel whose segments they overlap most
in all, and a cue of nobody's to the one that it overlaps most. Where an agent's channel is not analysed, and so has no
segments, its words are not stored either: what does not lie in the others' segments for the greater part is the
agent's.

Plain text has no times. A recording of one segment takes it whole; in a longer one its words are spread over the
segments in order, by length: which of them has which word is approximate. With speech in several channels it
would give words to the wrong speaker, so it is refused.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2vsearch.catalog.text_search import UNBROKEN, put
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import SettingsError, TranscriptError
from e2vsearch.ingest.transcripts.formats import SUFFIXES, Cue, Transcript, read
from e2vsearch.types import Segment

_NEAR_S = 1.0
_MOSTLY = 0.5  # of a cue's time, in a customer's segments: less of it is the agent's
_PIECE = re.compile(rf"\s*(?:[{UNBROKEN}][^\w\s]*|[^\s{UNBROKEN}]+)")  # a word with the space before it
_UNBROKEN = re.compile(f"[{UNBROKEN}]")
_Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The transcript of one recording."""

    path: Path  # of the transcript, or of the one that says most where none could be read
    transcript: Transcript | None
    error: TranscriptError | None = None


class TranscriptFolder:
    """The transcripts in a folder and below it, found again by the name of their recording.

    Raises:
        SettingsError: it is no folder.
    """

    def __init__(self, folder: str | os.PathLike[str], recordings: Iterable[Path]) -> None:
        # without "..", as what `expand` gives
        self._folder = Path(os.path.abspath(Path(folder).expanduser()))  # noqa: PTH100
        if not self._folder.is_dir():
            raise SettingsError(
                f"--transcripts {folder} is no folder - name the one with the .srt, .vtt, .json or .txt"
            )
        self._files: dict[_Key, list[Path]] = defaultdict(list)
        for path in self._walk():
            self._files[path.relative_to(self._folder).with_suffix("").parts].append(path)
        self._depth = max((len(key) for key in self._files), default=0)
        self._homes: dict[_Key, set[Path]] = defaultdict(set)  # folders of the recordings that a transcript fits
        for recording in recordings:
            key = self._key(recording)
            if key is not None:
                self._homes[key].add(recording.parent)

    def has(self, recording: Path) -> bool:
        """Return whether there is a transcript of that name."""
        return self._key(recording) is not None

    def unused(self) -> int:
        """Return how many transcripts fit none of the recordings."""
        return len(self._files) - len(self._homes)

    def find(self, recording: Path) -> Found | None:
        """Return the transcript of a recording, the first that can be read of those with its name."""
        key = self._key(recording)
        if key is None:
            return None
        paths = sorted(self._files[key], key=lambda path: SUFFIXES.index(path.suffix.lower()))
        homes = sorted(self._homes[key])
        if len(homes) > 1 and paths[0].parent in homes:  # the one beside it, and no other of that name
            if recording.parent != paths[0].parent:
                return None
        elif len(homes) > 1:
            where = f"{paths[0]} fits a recording in {homes[0]} and one in {homes[1]}"
            return Found(paths[0], None, TranscriptError(f"{where} - put it into a folder called as its recording's"))
        failed = None
        for path in paths:
            try:
                return Found(path, read(path))
            except TranscriptError as error:
                failed = failed or error
        return Found(paths[0], None, failed)

    def _walk(self) -> Iterator[Path]:
        for root, folders, files in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                    yield Path(root) / name

    def _key(self, recording: Path) -> _Key | None:
        above = recording.parts[:-1]
        for depth in range(min(self._depth - 1, len(above)), -1, -1):  # the longest common end is the surest
            for name in (recording.name, recording.stem):
                key = (*above[len(above) - depth :], name)
                if key in self._files:
                    return key
        return None


# --------------------------------------------------------------------------------------------------------- joining


@dataclass(frozen=True, slots=True)
class Joined:
    """A transcript's words, joined to segments."""

    said: dict[int, str]  # by segment's number
    left_out: int  # words that are in no segment, nor near one


def store(catalog: Catalog, recording: int, transcript: Transcript) -> Joined:
    """Join a transcript to a stored recording, in place of what was joined before.

    Raises:
        TranscriptError: it does not fit the recording.
    """
    ids, _ = catalog.segments_of([recording])
    segments = list(catalog.segments(ids.tolist()))
    channels, agents = 0, False
    for _, stored in catalog.recordings([recording]):
        spoken = {segment.channel for _, segment in segments}
        channels = stored.channels
        agents = any(role == "agent" and at not in spoken for at, role in enumerate(stored.roles or ()))
    joined = join(transcript, segments, channels, agents=agents)
    try:
        put(catalog, recording, joined.said)
    except TranscriptError as error:
        raise TranscriptError(f"{transcript.path}: {error}") from error
    return joined


def join(
    transcript: Transcript, segments: Sequence[tuple[int, Segment]], channels: int, *, agents: bool = False
) -> Joined:
    """Return the words of each segment.

    Args:
        transcript: of the recording.
        segments: all of its segments, with their numbers.
        channels: how many channels it has.
        agents: whether one of them is an agent's that is not analysed, so that its words are left out.

    Raises:
        TranscriptError: none of its words is near any segment, or it has no times and several channels speak.
    """
    numbers: dict[int, list[tuple[float, float, int]]] = defaultdict(list)
    for number, segment in segments:
        numbers[segment.channel].append((segment.start_s, segment.end_s, number))
    lines = {channel: _Line(sorted(spans)) for channel, spans in sorted(numbers.items())}
    if transcript.untimed:
        return _spread(transcript, lines, agents=agents)
    least = _MOSTLY if agents else 0.0
    of_speaker = _channels_of_speakers(transcript.cues, lines, least)
    pieces: dict[int, list[tuple[str, bool]]] = defaultdict(list)
    left_out = 0
    for cue in transcript.cues:
        if cue.channel is not None and cue.channel < channels and channels > 1:
            line = lines.get(cue.channel)
        elif cue.speaker in of_speaker:
            line = of_speaker[cue.speaker]
        else:
            line = _most(lines, [cue], least)
        for start_s, end_s, text, attached in _words(cue):
            segment_at = None if line is None else line.at(start_s, end_s, cue)
            if segment_at is None:
                left_out += 1
            else:
                pieces[segment_at].append((text, attached))
    if transcript.cues and not pieces and not agents:
        raise TranscriptError(
            f"{transcript.path}: none of its words is where speech was found - is it of this recording?"
        )
    return Joined({number: _written(said) for number, said in pieces.items()}, left_out)


class _Line:
    """The segments of one channel, by time."""

    def __init__(self, spans: Sequence[tuple[float, float, int]]) -> None:
        self._spans = spans
        self._ends = [end_s for _, end_s, _ in spans]

    @property
    def spans(self) -> Sequence[tuple[float, float, int]]:
        """``start_s``, ``end_s`` and the number of each segment."""
        return self._spans

    def overlapped(self, start_s: float, end_s: float) -> list[tuple[float, int]]:
        """Return the segments that an interval overlaps: seconds, and index."""
        found = []
        for at in range(bisect_right(self._ends, start_s), len(self._spans)):
            first, last, _ = self._spans[at]
            if first > end_s:
                break
            found.append((min(last, end_s) - max(first, start_s), at))
        return found

    def at(self, start_s: float, end_s: float, cue: Cue) -> int | None:
        """Return the number of the segment that a word of a cue belongs to."""
        inside = self.overlapped(start_s, end_s)
        if inside:
            return self._spans[max(inside, key=lambda found: (found[0], -found[1]))[1]][2]
        of_cue = [at for _, at in self.overlapped(cue.start_s, cue.end_s)]
        after = bisect_right(self._ends, start_s)
        near = of_cue or [at for at in (after - 1, after) if 0 <= at < len(self._spans)]
        away = [(max(self._spans[at][0] - end_s, start_s - self._spans[at][1]), at) for at in near]
        if not away or (not of_cue and min(away)[0] > _NEAR_S):
            return None
        return self._spans[min(away)[1]][2]


def _channels_of_speakers(cues: Sequence[Cue], lines: dict[int, _Line], least: float) -> dict[str | None, _Line | None]:
    """Return the channel of each speaker; None for one whose channel is not analysed."""
    of: dict[str, list[Cue]] = defaultdict(list)
    for cue in cues if len(lines) > 1 or least else ():
        if cue.speaker:
            of[cue.speaker].append(cue)
    return {speaker: _most(lines, said, least) for speaker, said in of.items()}


def _most(lines: dict[int, _Line], cues: Sequence[Cue], least: float) -> _Line | None:
    """Return the channel whose segments some cues overlap most, if for at least that share of their time."""

    def shared(line: _Line) -> float:
        return sum(seconds for cue in cues for seconds, _ in line.overlapped(cue.start_s, cue.end_s))

    found = max(lines.values(), key=shared, default=None)
    if found is None or shared(found) < least * sum(cue.end_s - cue.start_s for cue in cues):
        return None
    return found


def _words(cue: Cue) -> Iterator[tuple[float, float, str, bool]]:
    """Yield the words of a cue: start, end, text, and whether it is attached to the word before without a space."""
    if cue.words:
        spaced = any(text[:1].isspace() for _, _, text in cue.words)  # as Whisper writes them: " re", "fund"
        for at, (start_s, end_s, text) in enumerate(cue.words):
            yield start_s, end_s, text, spaced and at > 0
        return
    pieces = _PIECE.findall(cue.text)
    whole = sum(map(len, pieces))
    done = 0
    for at, piece in enumerate(pieces):
        first, last = (cue.start_s + (cue.end_s - cue.start_s) * n / whole for n in (done, done + len(piece)))
        yield first, last, piece, at > 0
        done += len(piece)


def _written(pieces: Iterable[tuple[str, bool]]) -> str:
    text = ""
    for piece, attached in pieces:
        joined = attached or (_UNBROKEN.match(text[-1:]) and _UNBROKEN.match(piece))
        text += piece if joined else f" {piece}"
    return " ".join(text.split())


def _spread(transcript: Transcript, lines: dict[int, _Line], *, agents: bool) -> Joined:
    if len(lines) + agents > 1:
        raise TranscriptError(
            f"{transcript.path}: has no times, and {len(lines) + agents} channels speak - give .srt, .vtt or .json, "
            "which have"
        )
    spans = [span for line in lines.values() for span in line.spans]
    if not spans:
        raise TranscriptError(f"{transcript.path}: no speech was found in its recording - is it of this recording?")
    spoken_s = sum(end_s - start_s for start_s, end_s, _ in spans)
    ends = []
    done = 0.0
    for start_s, end_s, _ in spans:
        done += (end_s - start_s) / spoken_s
        ends.append(done)
    said: dict[int, list[tuple[str, bool]]] = defaultdict(list)
    for start, end, piece, attached in _words(Cue(0.0, 1.0, transcript.untimed)):
        at = min(bisect_right(ends, (start + end) / 2), len(spans) - 1)
        said[spans[at][2]].append((piece, attached))
    return Joined({number: _written(pieces) for number, pieces in said.items()}, 0)
