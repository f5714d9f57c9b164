"""``worker`` and ``queue``."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.command import command, group
from e2vsearch.cli.logs import LogForm, log_to_stderr
from e2vsearch.cli.options import EncodingOptions, MaxAudio, OpenOptions, Workers, Yes
from e2vsearch.cli.output import SOME_FAILED, Results, counted, speed
from e2vsearch.cli.signals import ended_by_signals, note_stopping
from e2vsearch.display import clock

if TYPE_CHECKING:
    from e2vsearch.catalog.queue import QueueState

_OUTCOMES = {
    "stored": "stored",
    "replaced": "replaced",
    "already": "already there",
    "moved": "moved",
    "retried": "to be tried again",
    "dead_letters": "dead letters",
    "lost": "lost to other workers",
    "given_back": "given back",
}


@command("worker --index postgresql://user@host/calls", "worker --drain --log json")
def worker(
    workers: Workers = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="End when nothing is queued, nor leased by any worker.")
    ] = False,
    lease: Annotated[
        float,
        typer.Option(help="Seconds after which others take over from a worker that was lost.", metavar="S", min=1.0),
    ] = 60.0,
    attempts: Annotated[
        int, typer.Option(help="How often a recording is tried before it is a dead letter.", min=1)
    ] = 3,
    max_audio_s: MaxAudio = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Serve Prometheus metrics at 127.0.0.1:PORT/metrics; 0 takes any port that is free.",
            min=0,
            max=65535,
        ),
    ] = None,
    log: Annotated[
        LogForm, typer.Option(help="A line for each recording on stderr: text (key=value) or json.")
    ] = "text",
    *,
    options: EncodingOptions,
    results: Results,
) -> None:
    """Ingest what e2vsearch ingest --queue has queued. Run as many as you like, on as many machines as you like.

    SIGTERM or Ctrl-C ends it: what it has not done goes back into the queue. A second one ends it at once: others take
    that over when its leases have run out.
    """
    from e2vsearch.ingest.worker import WorkerOptions

    work = WorkerOptions(workers=workers or 0, lease_s=lease, attempts=attempts, drain=drain, max_audio_s=max_audio_s)
    stop = threading.Event()
    log_to_stderr("e2vsearch", log, quiet=results.quiet)
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals(lambda *_: stop.set()))
        collection = stack.enter_context(options.open())
        metrics = None
        if metrics_port is not None:
            from e2vsearch.ingest.prometheus import WorkerMetrics

            metrics = WorkerMetrics(collection.catalog)
            port = stack.enter_context(metrics.serving(metrics_port))
            results.note(f"metrics at http://127.0.0.1:{port}/metrics")
        place = collection.location.named
        results.note(f"working for {place} - Ctrl-C ends it")
        stopping = note_stopping(quiet=results.quiet)
        report = collection.queue.work(work, stop=stop, done=metrics, stopping=stopping)
    counts = asdict(report)
    parts = [f"{counts[name]:,} {outcome}" for name, outcome in _OUTCOMES.items() if counts[name]]
    results.write_report(counts, f"{place}: {', '.join(parts) or 'nothing was queued'}")
    if report.audio_s:
        results.note(speed(report.segments, report.audio_s, report.seconds))
    if drain and report.dead_letters:
        results.note("what failed for good: e2vsearch queue")
        raise typer.Exit(SOME_FAILED)


@command("queue retry", "queue retry calls/one.wav")
def retry(
    uris: Annotated[
        list[str] | None,
        typer.Argument(help="Dead letters, as e2vsearch queue names them; all by default.", metavar="FILE..."),
    ] = None,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Queue dead letters again, as if new."""
    with options.open() as collection:
        count = collection.queue.retry(uris or None)
    results.write_report({"queued": count}, f"{count:,} queued again")


@command("queue clear --failed-only", "queue clear --yes")
def clear(
    failed_only: Annotated[bool, typer.Option("--failed-only", help="Only the dead letters.")] = False,
    yes: Yes = False,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Empty the queue. What is leased goes on; recordings that are stored stay."""
    with options.open() as collection:
        depth = collection.queue.state().depth
        count = depth.dead_letters if failed_only else depth.queued + depth.dead_letters
        if count and not yes:
            typer.confirm(f"Take {counted(count, 'recording')} out of the queue?", abort=True, err=True)
        count = collection.queue.clear(dead_letters_only=failed_only)
    results.write_report({"removed": count}, f"{count:,} taken out of the queue")


@command("queue", "queue show --format json")
def show(*, options: OpenOptions, results: Results) -> None:
    """Show how many recordings wait, who works on which, and the dead letters."""
    with options.open() as collection:
        state = collection.queue.state()
    results.write_facts(asdict(state), _facts(state))


queue = group("queue", "Recordings that wait for workers, leases and dead letters.", show, retry, clear, main="show")


def _facts(state: QueueState) -> list[tuple[str, Any]]:
    depth = state.depth
    later = f", {depth.delayed:,} of them to be tried again later" if depth.delayed else ""
    lost = f", {depth.expired:,} of them of lost workers" if depth.expired else ""
    facts: list[tuple[str, Any]] = [
        ("queued", f"{depth.queued:,}{later}"),
        ("leased", f"{depth.leased:,}{lost}"),
        (
            "dead letters",
            f"{depth.dead_letters:,}" + (" - once mended: e2vsearch queue retry" if depth.dead_letters else ""),
        ),
    ]
    if depth.queued + depth.leased:
        facts.append(("oldest", clock(depth.oldest_s)))
    facts += [(each.name, f"{each.jobs:,} leased until {each.leased_until:%H:%M:%S} UTC") for each in state.workers]
    facts += [
        (f"dead letter: {each.reason}", f"{each.message} (tries: {each.attempts:,})") for each in state.dead_letters
    ]
    return facts
