"""Commands on a collection as a whole: status, failures, remove, doctor."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.options import (
    Format,
    Index,
    Output,
    OutputFormat,
    Quiet,
    Where,
)
from e2vsearch.cli.output import chosen, clock, note, write

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

from e2vsearch.cli.output import FACTS, fact_rows, index_facts

if TYPE_CHECKING:
    pass


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
    if state.problem is not None:
        facts.append(("problem", state.problem))
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
        found = collection.recordings(*(recordings or []), where=where)
        for recording in found if not quiet or dry_run else []:
            typer.echo(f"{recording.id}  {recording.uri}")
        if dry_run or not found:
            note(f"{len(found):,} recordings would be removed" if dry_run else "nothing to remove", quiet=quiet)
            return
        if not yes:
            typer.confirm(f"Remove {len(found):,} recordings from {collection.location.named}?", abort=True, err=True)
        removed = collection.remove(*(recording.id for recording in found))
    note(f"removed {removed:,} recordings", quiet=quiet)


def doctor(index: Index = None, format_: OutputFormat = None) -> None:
    """Check versions, encoders, speech detection, database and index. Each lack has its cure; exit 1 if one matters."""
    from e2vsearch.doctor import examine

    findings = examine(index)
    rows = [asdict(finding) for finding in findings]
    table = [{**row, "state": "ok" if row["ok"] else "LACKS" if row["needed"] else "without"} for row in rows]
    columns = {"name": "what", "state": "state", "found": "found", "cure": "cure"}
    write(rows, format_=format_, columns=columns, table=table)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)
