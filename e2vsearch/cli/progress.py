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

_LINE_EVERY_S = 10.0


class Step(Protocol):
    """How far a run over files is; `e2vsearch.ingest.runner.Progress` is one."""

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
        self._started = self._last = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def files(self, step: Step) -> None:
        """Show how many files are done, at what rate."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = f"{step.audio_s / elapsed:.0f}x real time" if step.audio_s else f"{step.done / elapsed:.0f} files/s"
        rate += f", {step.failed} failed" if step.failed else ""
        left_s = elapsed / step.done * (step.total - step.done) if step.done else 0.0
        line = f"{step.done:,} of {step.total:,} files, {rate}, about {left_s:.0f} s left"
        self._show("files", step.done, step.total, rate, line)

    def stage(self, name: str, done: int, total: int) -> None:
        """Show how much of one stage is done."""
        self._show(name, done, total if done else None, "", f"{name}: {done:,} of {total:,}" if total > 1 else name)

    def clear(self) -> None:
        """Take the bar away before anything is printed."""
        if self._bar is not None:
            self._bar.stop()

    def _show(self, name: str, done: int, total: int | None, rate: str, line: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=name, completed=done, total=total, rate=rate)
        elif not self._quiet and time.monotonic() - self._last >= _LINE_EVERY_S:
            self._last = time.monotonic()
            typer.echo(shown(line), err=True)
