"""``forget`` and ``about``: recordings erased with every trace of them, and all that is held about one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.options import OpenOptions, Where, Yes
from e2vsearch.cli.output import Results, counted, size

if TYPE_CHECKING:
    from e2vsearch.erasure import Proof

_DAYS = {"": 1, "d": 1, "w": 7, "y": 365}


@command("forget call:45", "forget --where 'customer = \"Kim\"'", "forget --older-than 90d --yes")
def forget(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids (call:45), or the files, folders or URLs they were ingested from.", metavar="RECORDING..."
        ),
    ] = None,
    where: Where = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only those recorded so long ago: days, or 12w, 2y.", metavar="90d")
    ] = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="Only those older than the collection's retention_days.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Erase nothing: search the collection's files for these paths, their names, or any words."
        ),
    ] = False,
    proof: Annotated[
        bool, typer.Option("--proof/--no-proof", help="Search the collection's files afterwards for what was erased.")
    ] = True,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be erased, and write nothing.")] = False,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Erase recordings with every trace of them. The audio stays.

    Rows, vectors, words, labels, points of maps, kept queries, what was estimated from them, and old indexes go. Ends
    with a search of the collection's files for what was erased, exit 1 if something is left, and with what it cannot
    reach. Without recordings or filter it finishes what e2vsearch remove left.
    """
    if expired and older_than is not None:
        raise typer.BadParameter("--expired is --older-than retention_days: take one of the two")
    names, age = recordings or [], _age(older_than) if older_than is not None else None
    with options.open() as collection:
        if check:
            report = collection.forget(*names, check=True)
        else:
            found = collection.forget(*names, where=where, older_than=age, expired=expired, dry_run=True)
            for uri in found.audio:
                results.note(uri)
            if dry_run:
                results.write_report(asdict(found), f"{counted(len(found.audio), 'recording')} would be erased")
                return
            if not yes:
                what = counted(len(found.audio), "recording") if found.audio else "what is left of removed recordings"
                typer.confirm(f"Erase {what} from {collection.location.named}?", abort=True, err=True)
            report = collection.forget(*names, where=where, older_than=age, expired=expired, proof=proof)
    erased = report.erased
    line = f"erased {counted(erased.recordings, 'recording')}, {counted(erased.segments, 'segment')}"
    results.write_report(asdict(report), "nothing was erased" if check else line)
    if report.proof is not None:
        _note_proof(report.proof, results)
    for each in report.unreached:
        results.note(f"not reached: {each}")
    if report.proof is not None and report.proof.left:
        raise typer.Exit(1)


def _note_proof(proof: Proof, results: Results) -> None:
    searched = f"searched {counted(proof.files, 'file')}, {size(proof.size)}, for {counted(proof.traces, 'trace')}"
    results.note(f"{searched}: {'found some' if proof.left else 'nothing is left'}")
    for each in proof.left:
        results.note(f"left in {each}")


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([dwy]?)", text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"--older-than {text!r} is no age - write 90d, 12w or 2y")
    try:
        return timedelta(days=float(found[1]) * _DAYS[found[2]])
    except OverflowError:
        raise typer.BadParameter(f"--older-than {text!r} is before any recording - write 90d, 12w or 2y") from None


@command("about call:45", "about calls/one.wav -o answer.json")
def about(
    recording: Annotated[
        str,
        typer.Argument(
            help="An id (call:45), or the path or URL that it was, or was to be, ingested from.", metavar="RECORDING"
        ),
    ],
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Show everything that is held about one recording. As JSON: what Art. 15 GDPR gives to the person who speaks."""
    with options.open() as collection:
        held = collection.about(recording)
    if results.format_ is None and results.output is None:
        results = replace(results, format_="json")
    results.write_facts(held, [(name.replace("_", " "), _in_short(value)) for name, value in held.items()])


def _in_short(value: Any) -> str:
    """Return a value as a table has it: of what is long, how much there is."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_in_short(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return f"{counted(len(value), 'entry', 'entries')}, which the json format has" if value else "none"
    return "" if value is None else str(value)
