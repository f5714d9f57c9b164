"""What became of recordings: of one, of a run so far, and of a whole run."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from e2vsearch.ingest.metadata import MetadataTable
    from e2vsearch.ingest.transcripts.alignment import TranscriptFolder

_log = logging.getLogger(__name__)

Outcome = Literal["stored", "replaced", "already", "moved", "failed"]


@dataclass(frozen=True, slots=True)
class FileFailure:
    """One file that could not be ingested in this run."""

    uri: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class RecordingReport:
    """What became of one recording."""

    uri: str
    outcome: Outcome
    recording: int | None = None  # its number in the catalog, None where it failed
    audio_s: float = 0.0  # listened to: 0 where it was known before
    seconds: float = 0.0  # from the first look to the commit, waits for other recordings left out
    segments: int = 0  # newly stored
    failure: FileFailure | None = None  # of the recording
    transcript: bool = False  # one was joined
    left_out_words: int = 0  # of the transcript
    unknown_roles: bool = False  # newly stored, and whose voices its channels have is not known
    other_roles: bool = False  # stored before with other roles than those given now, and left so
    transcript_failure: FileFailure | None = None

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work a second of audio, None where nothing was listened to."""
        return self.seconds / self.audio_s if self.audio_s else None

    @property
    def fields(self) -> dict[str, str | float | int | None]:
        """Plain values by stable names, as they are logged; None where there is none."""
        factor = self.real_time_factor
        return {
            "uri": self.uri,
            "outcome": self.outcome,
            "recording": None if self.recording is None else f"call:{self.recording}",
            "audio_s": round(self.audio_s, 3),
            "seconds": round(self.seconds, 3),
            "real_time_factor": None if factor is None else round(factor, 4),
            "segments": self.segments,
            "reason": self.failure.reason if self.failure else None,
            "message": self.failure.message if self.failure else None,
            "transcript": self.transcript_failure.message if self.transcript_failure else self.transcript or None,
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, after each file."""

    path: str  # the file just done
    outcome: Outcome
    done: int
    total: int
    failed: int
    audio_s: float  # decoded so far in this run


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of what became of the files of a run."""

    stored: int  # new
    replaced: int  # other content than before at the same place
    already: int  # stored before, unchanged
    moved: int  # stored before, now at another place
    silent: int  # of the stored and replaced: no speech was found
    segments: int
    audio_s: float
    seconds: float
    interrupted: bool
    left: int  # files not reached, when interrupted
    unused_metadata: int  # rows of --meta that named no file of this run
    failures: tuple[FileFailure, ...]  # of files, and of transcripts
    transcripts: int = 0  # recordings that one was joined to
    unused_transcripts: int = 0  # those of --transcripts that fit no file of this run
    left_out_words: int = 0  # of transcripts, where no segment is stored
    unknown_roles: int = 0  # new recordings of which it is not known whose voices their channels have
    other_roles: int = 0  # stored before with other roles than those given now: they stay as they are


class IngestCounts:
    """What became of the recordings of a run so far.

    Args:
        total: files of the run, as far as they are known.
        progress: called after each file.
        each: called with what became of each recording.
    """

    def __init__(
        self,
        total: int = 0,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        each: Callable[[RecordingReport], None] = lambda _: None,
    ) -> None:
        self.total = total
        self.changed = False  # segments came or went; who builds the index takes it back
        self._progress = progress
        self._each = each
        self._started = time.perf_counter()
        self._outcomes: Counter[Outcome] = Counter()
        self._failures: list[FileFailure] = []
        self._sums: Counter[str] = Counter()
        self._audio_s = 0.0

    def add(self, report: RecordingReport) -> None:
        """Count one recording."""
        new = report.outcome in ("stored", "replaced")
        self._outcomes[report.outcome] += 1
        self._audio_s += report.audio_s
        self._sums["segments"] += report.segments
        self._sums["silent"] += new and not report.segments and report.audio_s > 0  # a plan has listened to nothing
        self._sums["transcripts"] += report.transcript
        self._sums["left_out_words"] += report.left_out_words
        self._sums["unknown_roles"] += report.unknown_roles
        self._sums["other_roles"] += report.other_roles
        if report.unknown_roles and self._sums["unknown_roles"] == 1:
            warn_of_roles(report.uri)
        self._failures += filter(None, (report.failure, report.transcript_failure))
        self.changed |= new
        self._each(report)
        done, failed = self._outcomes.total(), self._outcomes["failed"]
        self._progress(Progress(report.uri, report.outcome, done, self.total, failed, self._audio_s))

    def report(
        self, table: MetadataTable | None = None, folder: TranscriptFolder | None = None, *, interrupted: bool
    ) -> IngestReport:
        """Return the counts."""
        return IngestReport(
            stored=self._outcomes["stored"],
            replaced=self._outcomes["replaced"],
            already=self._outcomes["already"],
            moved=self._outcomes["moved"],
            silent=self._sums["silent"],
            segments=self._sums["segments"],
            audio_s=self._audio_s,
            seconds=time.perf_counter() - self._started,
            interrupted=interrupted,
            left=self.total - self._outcomes.total(),
            unused_metadata=table.unused() if table is not None else 0,
            failures=tuple(self._failures),
            transcripts=self._sums["transcripts"],
            unused_transcripts=folder.unused() if folder is not None else 0,
            left_out_words=self._sums["left_out_words"],
            unknown_roles=self._sums["unknown_roles"],
            other_roles=self._sums["other_roles"],
        )


def warn_of_roles(uri: str) -> None:
    """Log that the roles of a recording's channels are not known; once a run is enough."""
    _log.warning(
        "%s: whose voice each channel has is not known, here and perhaps in more: an agent's is analysed too - say so "
        "with --channel-role 0=agent,1=customer, or for all: e2vsearch policy set --channel-role 0=agent,1=customer",
        uri,
    )
