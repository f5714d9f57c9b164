"""``ingest``, ``status``, ``failures``, ``remove``."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.logs import LogForm, log_to_stderr
from e2vsearch.cli.options import (
    Device,
    EncoderName,
    Format,
    Index,
    Output,
    OutputFormat,
    Precision,
    Quiet,
    Workers,
)
from e2vsearch.cli.output import SOME_FAILED, chosen, clock, note, write

if TYPE_CHECKING:
    from e2vsearch.collection import Collection
    from e2vsearch.ingest.recording import Outcome
from e2vsearch.ingest.runner import IngestReport

INTERRUPTED = 130

_LISTED = 20  # failures shown after a run; `e2vsearch failures` has them all


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, globs; s3://, gs:// and http(s):// URLs, their prefixes that end with /, and globs; "
            "- reads a list of all these from stdin, one a line.",
            metavar="PATH...",
        ),
    ],
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    meta: Annotated[
        Path | None,
        typer.Option(help="A CSV whose columns are joined by file name: file,agent,queue,date,…", metavar="CALLS.CSV"),
    ] = None,
    transcripts: Annotated[
        Path | None,
        typer.Option(
            help="A folder of .srt, .vtt, .json (Whisper's and others') or .txt, joined by file name and by time; the "
            "audio's own folder too.",
            metavar="DIR",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Go on adding what comes to these folders or changes in them, until Ctrl-C or SIGTERM. Files that are "
            "still being written are left alone; what fails is tried again when it changes; what is deleted stays in "
            "the collection until e2vsearch remove.",
        ),
    ] = False,
    stable_s: Annotated[
        float,
        typer.Option(
            help="With --watch: seconds that a file's size and time must have stayed as they are. On a network share, "
            "more than its clients keep them: 60 for NFS.",
            min=0.0,
        ),
    ] = 10.0,
    queue: Annotated[
        bool, typer.Option("--queue", help="Only queue them, for e2vsearch worker to do: here, or on other machines.")
    ] = False,
    priority: Annotated[int, typer.Option(help="With --queue: those of a higher one are taken first.")] = 0,
    log: Annotated[
        LogForm | None,
        typer.Option(
            help="A line for each recording on stderr: text (key=value) or json.  [default: text with --watch, else a "
            "progress bar]",
            envvar="E2VSEARCH_LOG",
            show_default=False,
        ),
    ] = None,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Add calls to a collection. What is stored already is skipped, so it can be stopped and run again at any time."""
    from e2vsearch.cli.progress import Shown

    if watch and (dry_run or output is not None or format_ is Format.csv or "-" in paths):
        raise typer.BadParameter("--watch goes with folders and with --format json or jsonl: it never ends by itself")
    by_lines = watch and format_ in (Format.json, Format.jsonl)
    if log is not None or (watch and not by_lines):
        log_to_stderr("e2vsearch", log or LogForm.text, quiet=quiet)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an orderly end for `kill` as for Ctrl-C
    if "-" in paths:
        from e2vsearch.ingest.runner import paths_from

        paths = [*(path for path in paths if path != "-"), *paths_from(sys.stdin)]
    if queue and (watch or dry_run or transcripts is not None):
        raise typer.BadParameter(
            "--queue only queues: join --transcripts by another e2vsearch ingest once workers have stored them"
        )
    with ExitStack() as stack:
        collection = _opened(stack, index, encoder, device, precision, dry_run=dry_run)
        if queue:
            from e2vsearch.cli.output import report_queued

            queued = collection.queue.add(*paths, priority=priority, meta=meta)
            named = collection.location.named
            report_queued(queued, named, encoder=encoder, format_=format_, output=output, quiet=quiet)
            raise typer.Exit(SOME_FAILED if queued.failures else 0)
        if watch:
            where = ", ".join(paths)
            note(f"watching {where} for {collection.location.named} - Ctrl-C ends it", quiet=quiet)
            each = _line if by_lines else _nothing
            report = collection.watch(
                *paths, workers=workers, meta=meta, transcripts=transcripts, stable_s=stable_s, each=each
            )
            done = report.stored + report.replaced + report.moved
            note(f"ended: {done:,} added, {len(report.failures):,} failed; {report.left:,} left", quiet=quiet)
            raise typer.Exit(SOME_FAILED if report.failures else 0)
        with Shown(quiet or log is not None) as shown:
            report = collection.ingest(
                *paths, workers=workers, meta=meta, transcripts=transcripts, dry_run=dry_run, progress=shown
            )
        place = collection.location.named
    _report(report, place, dry_run=dry_run, format_=format_, output=output, quiet=quiet)
    if report.interrupted:
        note(f"interrupted with {report.left:,} files left - run it again to go on", quiet=quiet)
        raise typer.Exit(INTERRUPTED)
    if report.failures:
        raise typer.Exit(SOME_FAILED)


def _line(outcome: Outcome) -> None:
    typer.echo(json.dumps(outcome.fields, ensure_ascii=False))
    sys.stdout.flush()


def _nothing(outcome: Outcome) -> None:
    """The log says it."""


def _opened(
    stack: ExitStack,
    index: str | None,
    encoder: str | None,
    device: str | None,
    precision: str | None,
    *,
    dry_run: bool,
) -> Collection:
    import e2vsearch
    from e2vsearch.errors import NoCollection

    if not dry_run:
        return stack.enter_context(e2vsearch.open(index, encoder=encoder, device=device, precision=precision))
    try:
        return stack.enter_context(
            e2vsearch.open(index, create=False, encoder=encoder, device=device, precision=precision)
        )
    except NoCollection:  # nothing is there yet, and nothing may be made: rehearse with one that is thrown away
        import tempfile

        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        return stack.enter_context(e2vsearch.open(scratch, encoder=encoder))


def _report(
    report: IngestReport, place: str, *, dry_run: bool, format_: Format | None, output: Path | None, quiet: bool
) -> None:
    whole = asdict(report)
    would = "would be " if dry_run else ""
    listed = [("stored", report.stored), ("replaced", report.replaced), ("moved", report.moved)]
    parts = [f"{report.stored:,} {would}stored"] + [f"{n:,} {would}{name}" for name, n in listed[1:] if n]
    parts += [f"{report.already:,} already there"] if report.already else []
    parts += [f"{len(report.failures):,} failed"] if report.failures else []
    if chosen(format_, output) is Format.table:
        typer.echo(f"{place}: {', '.join(parts)}")
    else:
        write([whole], format_=format_, output=output, whole=whole)
    if report.seconds and report.audio_s:
        speed = f"{report.audio_s / report.seconds:.0f}x real time"
        note(f"{report.segments:,} segments of {clock(report.audio_s)} in {report.seconds:.1f} s, {speed}", quiet=quiet)
    if report.silent:
        note(f"{report.silent:,} without speech: stored, with nothing to find in them", quiet=quiet)
    if report.unused_metadata:
        note(f"{report.unused_metadata:,} rows of --meta name no file of this run", quiet=quiet)
    if report.transcripts:
        note(f"{report.transcripts:,} transcripts {would or 'were '}joined", quiet=quiet)
    if report.unused_transcripts:
        note(f"{report.unused_transcripts:,} of --transcripts fit no file of this run", quiet=quiet)
    if report.left_out_words:
        note(f"{report.left_out_words:,} of their words left out: said where no speech was found", quiet=quiet)
    for failure in report.failures[:_LISTED]:
        note(f"failed: {failure.message}", quiet=quiet)
    if len(report.failures) > _LISTED:
        note(f"… and {len(report.failures) - _LISTED:,} more: e2vsearch failures", quiet=quiet)
