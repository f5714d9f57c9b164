"""``worker`` and ``queue``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.logs import LogForm, log_to_stderr
from e2vsearch.cli.options import Device, EncoderName, Format, Index, Output, OutputFormat, Precision, Quiet, Workers
from e2vsearch.cli.output import FACTS, SOME_FAILED, chosen, clock, fact_rows, note, write

if TYPE_CHECKING:
    from e2vsearch.catalog.queue import QueueState


queue_app = typer.Typer(
    help="The queue that workers take recordings from: how full it is, who works on it, what was given up."
)


def worker(
    index: Index = None,
    encoder: EncoderName = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="End when nothing is left, neither queued nor in work anywhere.")
    ] = False,
    lease: Annotated[
        float,
        typer.Option(
            help="Seconds after which others take over what a worker had that was lost.", metavar="S", min=1.0
        ),
    ] = 60.0,
    attempts: Annotated[int, typer.Option(help="How often a recording is tried before it is parked.", min=1)] = 3,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Answer Prometheus at 127.0.0.1:PORT/metrics; 0 takes any port that is free.", min=0, max=65535
        ),
    ] = None,
    log: Annotated[
        LogForm, typer.Option(help="A line for each recording on stderr: text (key=value) or json.")
    ] = LogForm.text,
    format_: OutputFormat = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Ingest what e2vsearch ingest --queue has queued. Run as many as you like, on as many machines as you like.

    SIGTERM or Ctrl-C ends it: what it has not done goes back into the queue.
    """
    import e2vsearch
    from e2vsearch.ingest.queue import Worker, WorkerOptions

    options = WorkerOptions(workers=workers or 0, lease_s=lease, attempts=attempts, drain=drain)
    log_to_stderr("e2vsearch", log, quiet=quiet)
    with ExitStack() as stack:
        stop = stack.enter_context(_signalled())
        collection = stack.enter_context(e2vsearch.open(index, encoder=encoder, device=device, precision=precision))
        metrics = None
        if metrics_port is not None:
            from e2vsearch.ingest.prometheus import WorkerMetrics

            metrics = WorkerMetrics(collection.catalog)
            port = stack.enter_context(metrics.serving(metrics_port))
            note(f"metrics at http://127.0.0.1:{port}/metrics", quiet=quiet)
        here = Worker(collection, options, stop, metrics)
        note(f"{here.name} works for {collection.location.named} - Ctrl-C ends it", quiet=quiet)
        report = here.run()
        place = collection.location.named
    parts = [f"{n:,} {name.replace('_', ' ')}" for name, n in asdict(report).items() if n and name in _COUNTED]
    if chosen(format_, output) is Format.table:
        typer.echo(f"{place}: {', '.join(parts) or 'nothing was queued'}")
    else:
        write([asdict(report)], format_=format_, output=output, whole=asdict(report))
    if report.audio_s:
        speed = f"{report.audio_s / report.seconds:.0f}x real time"
        note(f"{report.segments:,} segments of {clock(report.audio_s)} in {report.seconds:.1f} s, {speed}", quiet=quiet)
    if drain and report.parked:
        note("what failed for good: e2vsearch queue", quiet=quiet)
        raise typer.Exit(SOME_FAILED)


_COUNTED = ("stored", "replaced", "already", "moved", "again", "parked", "lost", "given_back")


@queue_app.callback(invoke_without_command=True)
def queue(context: typer.Context, index: Index = None, format_: OutputFormat = None, output: Output = None) -> None:
    """The queue that workers take recordings from: how full it is, who works on it, what was given up."""
    if context.invoked_subcommand is not None:
        return
    import e2vsearch
    from e2vsearch.catalog import queue as jobs

    with e2vsearch.open(index, create=False) as collection:
        state = jobs.state(collection.catalog)
    whole = asdict(state)
    write([whole], format_=format_, output=output, columns=FACTS, table=fact_rows(_facts(state)), whole=whole)


@queue_app.command("retry")
def queue_retry(
    uris: Annotated[
        list[str] | None, typer.Argument(help="Parked recordings, as e2vsearch queue names them; all by default.")
    ] = None,
    index: Index = None,
    quiet: Quiet = False,
) -> None:
    """Queue parked recordings again, as if new."""
    import e2vsearch
    from e2vsearch.catalog import queue as jobs

    with e2vsearch.open(index, create=False) as collection:
        count = jobs.retry(collection.catalog, uris or None)
    note(f"{count:,} queued again", quiet=quiet)


@queue_app.command("clear")
def queue_clear(
    index: Index = None,
    parked: Annotated[bool, typer.Option("--parked", help="Only what was given up.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    quiet: Quiet = False,
) -> None:
    """Empty the queue. What is in work goes on; recordings that are stored stay."""
    import e2vsearch
    from e2vsearch.catalog import queue as jobs

    with e2vsearch.open(index, create=False) as collection:
        depth = jobs.depth(collection.catalog)
        count = depth.dead_letters if parked else depth.queued + depth.dead_letters
        if count and not yes:
            typer.confirm(f"Take {count:,} recordings out of the queue?", abort=True, err=True)
        count = jobs.clear(collection.catalog, dead_letters_only=parked)
    note(f"{count:,} taken out of the queue", quiet=quiet)


def _facts(state: QueueState) -> list[tuple[str, Any]]:
    depth = state.depth
    later = f", {depth.delayed:,} of them to be tried again later" if depth.delayed else ""
    lost = f", {depth.expired:,} of them given up by their worker" if depth.expired else ""
    facts: list[tuple[str, Any]] = [
        ("queued", f"{depth.queued:,}{later}"),
        ("in work", f"{depth.leased:,}{lost}"),
        ("parked", f"{depth.dead_letters:,}" + (" - once mended: e2vsearch queue retry" if depth.dead_letters else "")),
    ]
    if depth.queued + depth.leased:
        facts.append(("oldest", clock(depth.oldest_s)))
    facts += [
        (each.name, f"{each.jobs:,} in work, leased until {each.leased_until:%H:%M:%S} UTC") for each in state.workers
    ]
    facts += [(f"parked: {each.reason}", f"{each.message} (tries: {each.attempts:,})") for each in state.dead_letters]
    return facts


@contextmanager
def _signalled() -> Iterator[threading.Event]:
    """An event that SIGTERM or Ctrl-C sets; a second Ctrl-C interrupts as ever."""
    stop = threading.Event()

    def set_it(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        stop.set()

    before = {number: signal.signal(number, set_it) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
