"""``ingest``, ``status``, ``failures``, ``remove``."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Where,
    Workers,
)
from e2vsearch.cli.output import SOME_FAILED, chosen, clock, note, size, write

if TYPE_CHECKING:
    from e2vsearch.ingest import Collection, IngestReport, Outcome

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
        from e2vsearch.ingest import paths_from

        paths = [*(path for path in paths if path != "-"), *paths_from(sys.stdin)]
    if queue and (watch or dry_run or transcripts is not None):
        raise typer.BadParameter(
            "--queue only queues: join --transcripts by another e2vsearch ingest once workers have stored them"
        )
    with ExitStack() as stack:
        collection = _opened(stack, index, encoder, device, precision, dry_run=dry_run)
        if queue:
            from e2vsearch.cli.working import report_queued
            from e2vsearch.ingest.queueing import enqueue

            queued = enqueue(collection, *paths, priority=priority, meta=meta)
            named = collection.place.named
            report_queued(queued, named, encoder=encoder, format_=format_, output=output, quiet=quiet)
            raise typer.Exit(SOME_FAILED if queued.failures else 0)
        if watch:
            where = ", ".join(paths)
            note(f"watching {where} for {collection.place.named} - Ctrl-C ends it", quiet=quiet)
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
        place = collection.place.named
    _report(report, place, dry_run=dry_run, format_=format_, output=output, quiet=quiet)
    if report.interrupted:
        note(f"interrupted with {report.left:,} files left - run it again to go on", quiet=quiet)
        raise typer.Exit(INTERRUPTED)
    if report.failures:
        raise typer.Exit(SOME_FAILED)


def status(index: Index = None, format_: OutputFormat = None, output: Output = None) -> None:
    """How much a collection holds, what made its vectors, and how its index fares."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        state = collection.status()
    whole = asdict(state)
    facts: list[tuple[str, Any]] = [("collection", state.place), ("id", state.collection), ("space", state.space)]
    counts = state.counts
    facts += [
        ("recordings", f"{counts.recordings:,}, {clock(counts.audio_s)} of audio"),
        ("without speech", f"{counts.silent:,}"),
        ("segments", f"{counts.segments:,}, {clock(counts.speech_s)} of speech"),
        ("failed files", f"{counts.failures:,}" + (" - see them with: e2vsearch failures" if counts.failures else "")),
    ]
    if counts.emotions:
        total = sum(counts.emotions.values())
        facts.append(("emotions", ", ".join(f"{name} {n:,} ({n / total:.0%})" for name, n in counts.emotions.items())))
    if state.transcribed:
        facts.append(("with transcript", f"{state.transcribed:,} segments"))
    facts += [("side vectors", f"{side.name}: {side.dim}-d, {side.segments:,} segments") for side in state.sides]
    if state.index is not None:
        facts += index_facts(asdict(state.index))
    write([whole], format_=format_, output=output, columns=FACTS, table=fact_rows(facts), whole=whole)


def failures(index: Index = None, format_: OutputFormat = None, output: Output = None) -> None:
    """Files that could not be ingested, with their reasons."""
    import e2vsearch

    with e2vsearch.open(index, create=False) as collection:
        rows = [asdict(failure) for failure in collection.failures()]
    columns = {"reason": "reason", "attempts": "tries>", "message": "what happened, and the cure"}
    if not rows and chosen(format_, output) is Format.table:
        note("no failures")
        return
    write(rows, format_=format_, output=output, columns=columns)


def remove(
    recordings: Annotated[
        list[str] | None, typer.Argument(help="Ids (call:45), or the files or folders they were ingested from.")
    ] = None,
    where: Where = None,
    index: Index = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and write nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Remove recordings from a collection; the audio files stay. With --where, those with a segment that meets it."""
    import e2vsearch

    if not recordings and where is None:
        raise typer.BadParameter("name recordings, or select them with --where")
    with e2vsearch.open(index, create=False) as collection:
        found = collection.find(*(recordings or []), where=where)
        for recording in found if not quiet or dry_run else []:
            typer.echo(f"{recording.id}  {recording.uri}")
        if dry_run or not found:
            note(f"{len(found):,} recordings would be removed" if dry_run else "nothing to remove", quiet=quiet)
            return
        if not yes:
            typer.confirm(f"Remove {len(found):,} recordings from {collection.place.named}?", abort=True, err=True)
        removed = collection.remove(*(recording.id for recording in found))
    note(f"removed {removed:,} recordings", quiet=quiet)


FACTS = {"fact": "", "value": ""}
"""Columns of a two-column table without headings."""


def fact_rows(facts: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Rows of such a table."""
    return [{"fact": name, "value": value} for name, value in facts]


def index_facts(state: dict[str, Any]) -> list[tuple[str, Any]]:
    """What a person wants to know of an index."""
    newer = f"{state['tail']:,} segments are compared one by one"
    facts = [
        ("index", f"{state['kind']}, {state['n']:,} segments; {newer}" if state["generation"] else f"none; {newer}")
    ]
    if state["nprobe"]:
        facts.append(("recall", _promised(state)))
        facts.append(("nprobe", f"{state['nprobe']} of {state['nlist']} lists, {state['k_factor']}-fold re-rank"))
        facts.append(("lists", f"made for {state['trained_n']:,} segments, {state['trained_at']}"))
    if state["generation"]:
        facts.append(("generation", f"{state['generation']}, {size(state['size'] or 0)}, built {state['built_at']}"))
    if state["tombstones"]:
        facts.append(("tombstones", f"{state['tombstones']:,}"))
    facts += [(name, state[name]) for name in ("note", "damage", "due", "drift") if state[name]]
    return facts


def _promised(state: dict[str, Any]) -> str:
    whose = f"{state['sample_stored']:,} stored vectors"
    if state["sample_asked"]:
        whose += f" ({state['recall_stored']:.3f}) and the last {state['sample_asked']:,} queries"
        whose += f" ({state['recall_asked']:.3f})"
    return f"{state['recall']:.3f} of the exact top 20 (target {state['target']:g}), on {whose}, {state['measured_at']}"


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
