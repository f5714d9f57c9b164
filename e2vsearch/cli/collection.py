"""Commands on a collection as a whole: status, failures, remove, doctor."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.facts import index_facts, policy_facts
from e2vsearch.cli.options import OpenOptions, Quiet, Where, Yes
from e2vsearch.cli.output import Results, echo, note
from e2vsearch.listing import clock


@command("status", "status --index postgresql://user@host/calls --format json")
def status(*, options: OpenOptions, results: Results) -> None:
    """Show what a collection holds. With its space, emotions, transcripts, and the state of its index."""
    with options.open() as collection:
        state = collection.status()
    counts = state.counts
    facts: list[tuple[str, Any]] = [
        ("collection", state.place),
        ("id", state.collection),
        ("space", state.space),
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
    facts += [
        ("named vectors", f"{each.name}: {each.dim}-d, {each.segments:,} segments") for each in state.named_vectors
    ]
    if state.index is not None:
        facts += index_facts(asdict(state.index))
    facts += policy_facts(state.policy)
    results.write_facts({**asdict(state), "policy": state.policy.plain()}, facts)


@command("failures", "failures -o failures.csv")
def failures(*, options: OpenOptions, results: Results) -> None:
    """List the files that could not be ingested, with their reasons."""
    with options.open() as collection:
        rows = [asdict(failure) for failure in collection.failures()]
    results.write_rows(
        rows, {"reason": "reason", "attempts": "tries>", "message": "what happened, and the cure"}, none="no failures"
    )


@command("remove call:45", "remove --where 'date < 2024-01-01' --yes")
def remove(
    recordings: Annotated[
        list[str] | None, typer.Argument(help="Ids (call:45), or the files or folders they were ingested from.")
    ] = None,
    where: Where = None,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and write nothing.")] = False,
    *,
    options: OpenOptions,
    quiet: Quiet = False,
) -> None:
    """Remove recordings from a collection, quickly. Their bytes stay in its files until e2vsearch forget.

    With --where, those with a segment that meets it. The audio files stay.
    """
    if not recordings and where is None:
        raise typer.BadParameter("name recordings, or select them with --where")
    with options.open() as collection:
        found = collection.recordings(*(recordings or []), where=where)
        for recording in found if not quiet or dry_run else []:
            echo(f"{recording.id}  {recording.uri}")
        if dry_run or not found:
            note(f"{len(found):,} recordings would be removed" if dry_run else "nothing to remove", quiet=quiet)
            return
        if not yes:
            typer.confirm(f"Remove {len(found):,} recordings from {collection.location.named}?", abort=True, err=True)
        removed = collection.remove(*(recording.id for recording in found))
    note(f"removed {removed:,} recordings", quiet=quiet)


@command("doctor", "doctor --index index --format json")
def doctor(*, options: OpenOptions, results: Results) -> None:
    """Check packages, encoders, database and index. Each lack has its cure; exit 1 if one matters."""
    from e2vsearch.doctor import examine

    checks = examine(options.index)
    rows = [asdict(each) for each in checks]
    table = [{**row, "state": "ok" if row["ok"] else "LACKS" if row["needed"] else "without"} for row in rows]
    results.write(rows, {"name": "what", "state": "state", "found": "found", "cure": "cure"}, table=table)
    if any(each.needed and not each.ok for each in checks):
        raise typer.Exit(1)
