"""``ingest``: recordings into a collection, at once, from a watched folder, or by the queue."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.logs import LogForm, log_to_stderr
from e2vsearch.cli.options import EncodingOptions, EngineName, EngineUrl, MaxAudio, Workers, read_paths
from e2vsearch.cli.output import INTERRUPTED, SOME_FAILED, Results, speed
from e2vsearch.cli.progress import ProgressBar
from e2vsearch.cli.signals import ended_by_signals, note_stopping
from e2vsearch.cli.text import json_shown
from e2vsearch.policy import parse_roles
from e2vsearch.settings import AUTO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2vsearch.collection import Collection
    from e2vsearch.ingest.queue import QueueReport
    from e2vsearch.ingest.ray import RayOptions
    from e2vsearch.ingest.reports import IngestReport, RecordingReport
    from e2vsearch.ingest.worker import WorkerOptions

RAY = "Ray"


@command("ingest calls/", "ingest calls/ --meta calls.csv --transcripts transcripts/", "ingest --watch inbox/")
def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, globs; s3://, gs:// and http(s):// URLs, their prefixes that end with /, and globs; "
            "- reads a list of all these from stdin, one a line.",
            metavar="PATH...",
        ),
    ],
    workers: Workers = None,
    meta: Annotated[
        Path | None,
        typer.Option(
            help="A CSV whose columns are joined by file name: file,queue,reason,date,…",
            metavar="CALLS.CSV",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    transcripts: Annotated[
        Path | None,
        typer.Option(
            help="A folder of .srt, .vtt, .json (Whisper's and others') or .txt, joined by file name and by time; the "
            "audio's own folder too.",
            metavar="DIR",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    max_audio_s: MaxAudio = None,
    channel_role: Annotated[
        str | None,
        typer.Option(
            help="Whose voice a channel has: an agent's is not analysed.  [default: columns role_0, role_1 of --meta, "
            "else the collection's policy]",
            metavar="0=agent,1=customer",
            show_default=False,
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
    ray: Annotated[
        str | None,
        typer.Option(
            help="Queue them, and have a Ray cluster's CPUs or GPUs work: ray://HOST:10001, HOST:6379 or auto on a "
            "node of it, or local. The collection is in Postgres; every node has e2vsearch, and reaches the recordings "
            "by the same names: in a bucket, or a folder that all of them mount.",
            metavar="ADDRESS",
            rich_help_panel=RAY,
        ),
    ] = None,
    ray_actors: Annotated[
        int,
        typer.Option(
            help="Workers on the cluster.  [default: as many as it holds]",
            min=0,
            show_default=False,
            rich_help_panel=RAY,
        ),
    ] = 0,
    ray_cpus: Annotated[float, typer.Option(help="CPUs of each.", min=0.01, rich_help_panel=RAY)] = 1.0,
    ray_gpus: Annotated[
        float, typer.Option(help="GPUs of each; with 0.25 four share one.", min=0.0, rich_help_panel=RAY)
    ] = 0.0,
    priority: Annotated[int, typer.Option(help="With --queue or --ray: those of a higher one are taken first.")] = 0,
    engine: EngineName = None,
    engine_url: EngineUrl = None,
    log: Annotated[
        LogForm | None,
        typer.Option(
            help="A line for each recording on stderr: text (key=value) or json.  [default: text with --watch, else a "
            "progress bar]",
            envvar="E2VSEARCH_LOG",
            show_default=False,
        ),
    ] = None,
    *,
    options: EncodingOptions,
    results: Results,
) -> None:
    """Add recordings to a collection. What is stored is skipped: it can be stopped and run again at any time.

    Ctrl-C or SIGTERM ends it once what is in work is done, a second one at once.
    """
    if watch and (dry_run or results.output is not None or results.format_ == "csv" or "-" in paths):
        raise typer.BadParameter("--watch goes with folders and with --format json or jsonl: it never ends by itself")
    if (queue or ray is not None) and (watch or dry_run or transcripts is not None):
        raise typer.BadParameter(
            "--queue and --ray only queue: join --transcripts by another e2vsearch ingest once workers have stored them"
        )
    by_lines = watch and results.format_ in ("json", "jsonl")
    if log is not None or (watch and not by_lines):
        log_to_stderr("e2vsearch", log or "text", quiet=results.quiet)
    paths = read_paths(paths)
    _check_named(paths)
    stopping = note_stopping(quiet=results.quiet)
    roles = None if channel_role is None else parse_roles(channel_role)
    if ray is not None:
        _check_place(options)
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        collection, place = _opened(stack, options, engine, engine_url, dry_run=dry_run)
        if queue or ray is not None:
            named = options.encoder not in (None, AUTO) or (ray is not None and collection.space is None)
            if named and not collection.queue.of_vectors:
                collection.queue.pinned_encoder()  # so that workers take the same
            queued = collection.queue.add(*paths, priority=priority, meta=meta, channel_roles=roles)
            if ray is None:
                _report_queued(queued, place, results)
                raise typer.Exit(SOME_FAILED if queued.failures else 0)
            from e2vsearch.ingest.ray import RayOptions
            from e2vsearch.ingest.worker import WorkerOptions

            work = WorkerOptions(workers=workers or 0, max_audio_s=max_audio_s)
            on = RayOptions(ray, ray_actors, ray_cpus, ray_gpus)
            _work_on_ray(collection, place, queued, on, work, results)
        if watch:
            results.note(f"watching {', '.join(paths)} for {place} - Ctrl-C ends it")
            each = {"each": _line} if by_lines else {}
            report = collection.watch(
                *paths,
                workers=workers,
                meta=meta,
                transcripts=transcripts,
                channel_roles=roles,
                stable_s=stable_s,
                max_audio_s=max_audio_s,
                stopping=stopping,
                **each,
            )
            done = report.stored + report.replaced + report.moved
            results.note(f"ended: {done:,} added, {len(report.failures):,} failed; {report.left:,} left")
            raise typer.Exit(SOME_FAILED if report.failures else 0)
        with ProgressBar(results.quiet or log is not None) as bar:
            report = collection.ingest(
                *paths,
                workers=workers,
                meta=meta,
                transcripts=transcripts,
                channel_roles=roles,
                max_audio_s=max_audio_s,
                dry_run=dry_run,
                progress=bar.files,
                activity=bar.activity,
                stopping=stopping,
            )
    _report(report, place, results, would="would be " if dry_run else "")
    if not (report.stored or report.replaced or report.already or report.moved or report.failures or report.left):
        results.note(_nothing(paths))
    if report.interrupted:
        results.note(f"interrupted with {report.left:,} files left - run it again to go on")
        raise typer.Exit(INTERRUPTED)
    if report.failures:
        raise typer.Exit(SOME_FAILED)


def _nothing(paths: Sequence[str]) -> str:
    """Return what to say where there is no file to ingest."""
    if not paths:
        return "no file is listed on stdin - give their paths, one a line"
    return f"no audio in {', '.join(paths)} - name a folder with .wav, .mp3, .flac or their like in it, or the files"


def _line(report: RecordingReport) -> None:
    typer.echo(json_shown(json.dumps(report.fields, ensure_ascii=False)))
    sys.stdout.flush()


def _check_named(paths: Sequence[str]) -> None:
    """See that something is there before a collection is made for it."""
    from e2vsearch.errors import AudioNotFound
    from e2vsearch.ingest.sources import check_named

    try:
        check_named(paths)
    except AudioNotFound as error:
        raise typer.BadParameter(str(error)) from error


def _check_place(options: EncodingOptions) -> None:
    """See that machines can share the collection, before one is made."""
    from e2vsearch import settings
    from e2vsearch.catalog.database import locate
    from e2vsearch.ingest.ray import check_place

    place = locate(settings.load(index=options.index).index)
    check_place(place.url, place.named)


def _opened(
    stack: ExitStack, options: EncodingOptions, engine: str | None, engine_url: str | None, *, dry_run: bool
) -> tuple[Collection, str]:
    """Open the collection, and return it with its name."""
    import e2vsearch
    from e2vsearch import settings
    from e2vsearch.catalog.database import locate
    from e2vsearch.errors import NoCollection

    named = locate(settings.load(index=options.index).index).named
    if not dry_run:
        return stack.enter_context(options.open(create=True, engine=engine, engine_url=engine_url)), named
    try:
        return stack.enter_context(options.open()), named
    except NoCollection:  # nothing is there yet, and nothing may be made: rehearse with one that is thrown away
        import tempfile

        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        return stack.enter_context(e2vsearch.open(scratch, create=True, encoder=options.encoder)), named


def _report(report: IngestReport, place: str, results: Results, would: str) -> None:
    parts = [f"{report.stored:,} {would}stored"]
    parts += [f"{n:,} {would}{name}" for name, n in (("replaced", report.replaced), ("moved", report.moved)) if n]
    parts += [f"{report.already:,} already there"] if report.already else []
    parts += [f"{len(report.failures):,} failed"] if report.failures else []
    results.write_report(asdict(report), f"{place}: {', '.join(parts)}")
    if report.seconds and report.audio_s:
        results.note(speed(report.segments, report.audio_s, report.seconds))
    for count, what in (
        (report.silent, "without speech: stored, with nothing to find in them"),
        (report.unused_metadata, "rows of --meta name no file of this run"),
        (report.transcripts, f"transcripts {would or 'were '}joined"),
        (report.unused_transcripts, "of --transcripts fit no file of this run"),
        (report.left_out_words, "of their words left out: no segment is stored where they are"),
        (report.other_roles, "stored before with other roles, and left so: e2vsearch remove them, then ingest again"),
    ):
        if count:
            results.note(f"{count:,} {what}")
    results.note_failures((each.message for each in report.failures), ": e2vsearch failures")


def _work_on_ray(
    collection: Collection, place: str, queued: QueueReport, options: RayOptions, work: WorkerOptions, results: Results
) -> None:
    """Have a cluster ingest what is queued, and print what became of it."""
    stop = threading.Event()
    results.note(f"working for {place} on Ray at {options.address} - Ctrl-C ends it")
    with ProgressBar(results.quiet) as bar, ended_by_signals(lambda *_: stop.set()):
        report = collection.queue.work_on_ray(
            options, work, stop=stop, progress=lambda done, total: bar.stage("recordings", done, total)
        )
    parts = [f"{report.recordings:,} stored"]
    parts += [f"{queued.already:,} already there"] if queued.already else []
    parts += [f"{report.dead_letters:,} dead letters"] if report.dead_letters else []
    parts += [f"{len(queued.failures):,} failed"] if queued.failures else []
    results.write_report({**asdict(report), "queued": asdict(queued)}, f"{place}: {', '.join(parts)}")
    if report.lost:
        results.note(f"{report.lost:,} workers were lost: others took over what they had")
    results.note_failures(each.message for each in queued.failures)
    if report.left:
        results.note(f"ended with {report.left:,} recordings left - run it again to go on")
        raise typer.Exit(INTERRUPTED)
    if report.dead_letters or queued.failures:
        results.note("what failed for good: e2vsearch queue")
        raise typer.Exit(SOME_FAILED)
    raise typer.Exit


def _report_queued(report: QueueReport, place: str, results: Results) -> None:
    parts = [f"{report.queued:,} queued"]
    parts += [f"{report.waiting:,} in the queue before"] if report.waiting else []
    parts += [f"{report.dead_letters:,} dead letters: e2vsearch queue retry"] if report.dead_letters else []
    parts += [f"{report.already:,} already there"] if report.already else []
    parts += [f"{len(report.failures):,} failed"] if report.failures else []
    results.write_report(asdict(report), f"{place}: {', '.join(parts)}")
    if report.unused_metadata:
        results.note(f"{report.unused_metadata:,} rows of --meta name no file of this run")
    results.note_failures(each.message for each in report.failures)
    if report.queued:
        results.note(f"now start workers, here or elsewhere: e2vsearch worker --index {place}")
