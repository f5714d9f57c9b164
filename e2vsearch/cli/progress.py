"""Progress on stderr: a bar with rate and time left on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import typer

from e2vsearch.cli.text import shown

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from e2vsearch.ingest.activity import Activity

_LINE_EVERY_S = 10.0
_NAME = 22  # characters of the file at work: the rest of the line needs 57 of a terminal's 80
_PHASES = {"listing": "looking for files", "opening": "opening the encoder", "indexing": "building the index"}


class Step(Protocol):
    """How far a run over files is; `e2vsearch.ingest.reports.Progress` is one."""

    @property
    def done(self) -> int:
        """Files done."""

    @property
    def total(self) -> int:
        """Files in all."""

    @property
    def failed(self) -> int:
        """Files that failed."""

    @property
    def audio_s(self) -> float:
        """Audio decoded so far."""


class ProgressBar:
    """Shows how far a run is; a context manager that leaves the line clean."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._step: Step | None = None
        self._started = self._last = time.monotonic()
        self._listening: float | None = None  # since when

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=12),
                TextColumn("{task.fields[facts]}", markup=False),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None, facts="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def files(self, step: Step) -> None:
        """Show how many files are done, at what rate."""
        self._step = step
        if self._listening is not None:  # `activity` shows more
            return
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = f"{step.audio_s / elapsed:.0f}x real time" if step.audio_s else f"{step.done / elapsed:.0f} files/s"
        left_s = elapsed / step.done * (step.total - step.done) if step.done else 0.0
        facts = ", ".join((f"{step.done:,} of {step.total:,} files", rate, *_failed(step), f"{_span(left_s)} left"))
        self._show("", step.done, step.total, facts)

    def activity(self, activity: Activity) -> None:
        """Show the phase that an ingest is in, or the file that it listens to and how much audio there is left."""
        if activity.phase in _PHASES:
            self._show(_PHASES[activity.phase], 0, None, "")
            return
        now = time.monotonic()
        self._listening = self._listening or now
        elapsed, heard_s, left_s = now - self._listening, activity.audio_s, activity.audio_left_s
        facts = [_span(heard_s) if left_s is None else f"{_span(heard_s)} of {_span(heard_s + left_s)} of audio"]
        if heard_s and elapsed > 1:
            facts.append(f"{heard_s / elapsed:.0f}x")
            facts += [f"{_span(left_s / heard_s * elapsed)} left"] if left_s is not None else []
        facts += _failed(self._step) if self._step is not None else []
        name = activity.at_work[0] if activity.at_work else "storing"
        name = name if len(name) <= _NAME else f"{name[: _NAME - 9]}…{name[-8:]}"
        self._show(name, heard_s, None if left_s is None else heard_s + left_s, ", ".join(facts))

    def stage(self, name: str, done: int, total: int) -> None:
        """Show how much of one stage is done."""
        self._show(name, done, total if done else None, f"{done:,} of {total:,}" if total > 1 else "")

    def clear(self) -> None:
        """Take the bar away before anything is printed."""
        if self._bar is not None:
            self._bar.stop()

    def _show(self, name: str, done: float, total: float | None, facts: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=shown(name), completed=done, total=total, facts=facts)
        elif not self._quiet and time.monotonic() - self._last >= _LINE_EVERY_S:
            self._last = time.monotonic()
            typer.echo(shown(": ".join(filter(None, (name, facts)))), err=True)


def _failed(step: Step) -> list[str]:
    return [f"{step.failed:,} failed"] if step.failed else []


def _span(seconds: float) -> str:
    """Return a duration in two units at most: ``52 s``, ``12 min``, ``3 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
