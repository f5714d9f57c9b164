"""``reembed``: a collection to another encoder's space, while it is searched."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.options import Device, OpenOptions, Precision, Workers
from e2vsearch.cli.output import INTERRUPTED, SOME_FAILED, Results, counted
from e2vsearch.cli.progress import ProgressBar
from e2vsearch.cli.signals import ended_by_signals, note_stopping

if TYPE_CHECKING:
    from e2vsearch.spaces.report import ReembedPlan, ReembedReport


@command("reembed --encoder light", "reembed --encoder light --dry-run", "reembed --discard")
def reembed(
    encoder: Annotated[
        str | None,
        typer.Option(
            help="The encoder whose space it moves to: a name (see e2vsearch encoders) or a model folder.",
            metavar="ENCODER",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    keep_old: Annotated[
        bool,
        typer.Option(
            "--keep-old",
            help="Keep vectors and index of the former space: going back to it embeds nothing again. --discard deletes "
            "them.",
        ),
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Remove, with the switch, the recordings whose audio cannot be read any more, with their transcripts "
            "and labels. Without it there is no switch while there are any.",
        ),
    ] = False,
    discard: Annotated[
        bool,
        typer.Option(
            "--discard", help="Delete the space that is not in use: an unfinished one, or what --keep-old has kept."
        ),
    ] = False,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Move a collection to another encoder's space. Run it again to go on after a stop.

    The audio of what is stored is read again. Segments keep their ids, so labels, transcripts and the audit log stay.
    It is searched all the while: in the former space until all is embedded and indexed, then in the new one, by a
    running serve too. The former space is deleted then.
    """
    if discard == (encoder is not None):
        raise typer.BadParameter("name the space to move to with --encoder, or give up the other one with --discard")
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        collection = stack.enter_context(options.open())
        place = collection.location.named
        if encoder is None:
            gone = collection.spaces.discard()
            line = f"{place}: deleted {gone}" if gone is not None else f"{place}: there is no other space"
            results.write_report({"deleted": None if gone is None else str(gone)}, line)
            return
        opened = {"device": device, "precision": precision}
        if dry_run:
            _report_plan(collection.spaces.plan(encoder, **opened), place, results)
            return
        with ProgressBar(results.quiet) as bar:
            report = collection.spaces.reembed(
                encoder,
                **opened,
                workers=workers,
                keep_old=keep_old,
                allow_missing=allow_missing,
                progress=bar.stage,
                stopping=note_stopping(quiet=results.quiet),
            )
    _report(report, place, results)
    if report.interrupted:
        results.note("interrupted - run it again to go on; queries are answered in the former space until then")
        raise typer.Exit(INTERRUPTED)
    if not report.switched:
        results.note(
            f"not switched: {counted(len(report.missing), 'source')} cannot be embedded - bring the audio back and run "
            "it again, or have those that are gone or damaged removed with --allow-missing"
        )
        raise typer.Exit(SOME_FAILED)


def _report_plan(plan: ReembedPlan, place: str, results: Results) -> None:
    line = f"{place}: {counted(plan.recordings, 'recording')} would be embedded for {plan.after}"
    line += f", {plan.already:,} are already" if plan.already else ""
    results.write_report(asdict(plan), line)
    results.note_failures((each.message for each in plan.missing), "")


def _report(report: ReembedReport, place: str, results: Results) -> None:
    parts = [f"{counted(report.recordings, 'recording')} embedded"]
    parts += [f"{report.already:,} before"] if report.already else []
    parts += [f"{report.removed:,} removed"] if report.removed else []
    parts += [f"now in {report.after}" if report.switched else f"still in {report.before}"]
    results.write_report(asdict(report), f"{place}: {', '.join(parts)}")
    results.note_failures((each.message for each in report.missing), "")
    if not report.switched:
        return
    for names, what in (
        (report.classifiers, "trained in the former space: predictions stay, to classify more train again"),
        (report.maps, "laid out in the former space: make again with e2vsearch map"),
        (report.projections, "fitted in the former space and deleted: fit again with e2vsearch projection fit"),
    ):
        if names:
            results.note(f"{', '.join(names)}: {what}")
    if report.kept:
        results.note(f"{report.before} is kept - delete it with: e2vsearch reembed --discard")
    if report.log_left:
        results.note(f"the former space is deleted, but {report.log_left}")
