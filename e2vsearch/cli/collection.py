"""Commands on a collection as a whole: status, failures, remove, doctor."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.facts import CHECKED, checked, index_facts, policy_facts
from e2vsearch.cli.options import OpenOptions, Where, Yes
from e2vsearch.cli.output import Results, counted
from e2vsearch.cli.table import Column
from e2vsearch.display import clock


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
        *([("other space", state.beside)] if state.beside else []),
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
        rows,
        {
            "reason": "reason",
            "attempts": "tries>",
            "uri": "file~",
            "message": Column(fit="wrap", below=True),
        },
        none="no failures",
    )


@command("remove call:45", "remove --where 'date < 2024-01-01' --yes")
def remove(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(help="Ids (call:45), or the files or folders they were ingested from.", metavar="RECORDING..."),
    ] = None,
    where: Where = None,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and write nothing.")] = False,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Remove recordings from a collection, quickly. Their bytes stay in its files until e2vsearch forget.

    With --where, those with a segment that meets it. The audio files stay.
    """
    if not recordings and where is None:
        raise typer.BadParameter("name recordings, or select them with --where")
    with options.open() as collection:
        found = collection.recordings(*(recordings or []), where=where, damaged=True)
        rows = [{"recording": each.id, "name": each.name, "uri": each.uri} for each in found]
        if not dry_run and found and not yes:
            results.note_each([f"{each.id}  {each.uri}" for each in found])
            what = counted(len(found), "recording")
            typer.confirm(f"Remove {what} from {collection.location.named}?", abort=True, err=True)
        removed = 0 if dry_run or not found else collection.remove(*(recording.id for recording in found))
    whole = {"removed": removed, "dry_run": dry_run, "recordings": rows}
    if results.format != "table" or (rows and (dry_run or yes)):  # else they were listed with the question
        results.write(rows, {"recording": "id", "uri": "file~"}, whole=whole)
    if dry_run:
        results.note(f"{counted(len(found), 'recording')} would be removed")
    else:
        results.note(f"removed {counted(removed, 'recording')}" if found else "nothing to remove")


@command("doctor", "doctor --index index --format json")
def doctor(*, options: OpenOptions, results: Results) -> None:
    """Check packages, encoders, database and index. Each lack has its cure; exit 1 if one matters."""
    from e2vsearch.doctor import examine

    checks = examine(options.index)
    rows = [asdict(each) for each in checks]
    results.write(rows, CHECKED, table=checked(rows, "LACKS", "without"))
    if any(each.needed and not each.ok for each in checks):
        raise typer.Exit(1)
