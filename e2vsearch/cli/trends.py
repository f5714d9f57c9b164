"""``trends``: shares of emotions, labels or clusters over time and between groups, as a table or a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from e2vsearch.cli.command import OUTPUT, command
from e2vsearch.cli.emotion import bar
from e2vsearch.cli.options import OpenOptions, OutputFormat, Quiet, RawCsv, Where
from e2vsearch.cli.output import Results, check_outputs, counted, split_outputs
from e2vsearch.cli.table import Column

if TYPE_CHECKING:
    from e2vsearch.analysis.trends.types import Trends

_COLUMNS: Mapping[str, str | Column] = {
    "period": Column("period", optional=True),
    "group": Column("group", fit="middle", optional=True),
    "value": Column("value", fit="end"),
    "share": "share>",
    "interval": "95 %>",
    "segments": "segments>",
    "recordings": "calls>",
}


@dataclass(frozen=True, slots=True)
class TrendsOutput:
    """Options of where trends are written."""

    outputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="Write to this file: .json, .jsonl, .csv, .txt, or .png, .svg (small multiples with intervals); "
            "repeatable.",
            metavar="FILE",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    format_: OutputFormat = None
    quiet: Quiet = False
    raw_csv: RawCsv = False

    def __post_init__(self) -> None:
        """Refuse a file that cannot be written before anything is counted for it."""
        from e2vsearch.analysis.trends import image

        check_outputs(self.outputs or (), image.SUFFIXES)

    def split(self) -> tuple[list[Results], list[Path]]:
        """Return what prints the shares, and the files of pictures."""
        return split_outputs(self.outputs or (), self.format_, quiet=self.quiet, raw_csv=self.raw_csv)


@command(
    "trends",
    "trends --by month --group queue -o trends.png",
    "trends --of label --by none --where 'date >= 2024-03-01'",
    "trends --of cluster --map april -o trends.csv",
)
def trends(
    by: Annotated[
        Literal["day", "week", "month", "none"],
        typer.Option(help="Periods of when recordings were made, UTC, weeks as in ISO 8601; none: all at once."),
    ] = "week",
    of: Annotated[
        Literal["emotion", "label", "cluster"],
        typer.Option(help="The emotion that is shown, labels of your own, or the clusters of a map."),
    ] = "emotion",
    group: Annotated[
        str | None,
        typer.Option(help="Count the values of this apart: a column of --meta, role or channel.", metavar="KEY"),
    ] = None,
    where: Where = None,
    map_: Annotated[
        str | None,
        typer.Option("--map", help="Whose clusters.  [default: map]", metavar="NAME", show_default=False),
    ] = None,
    *,
    options: OpenOptions,
    output: TrendsOutput,
) -> None:
    """Show shares of emotions, labels or clusters over time. Of segments, with 95 % intervals and counts."""
    from e2vsearch.analysis.trends import image
    from e2vsearch.catalog.near_values import why_nothing

    with options.open() as collection:
        found = collection.trends(by=None if by == "none" else by, of=of, group=group, where=where, map=map_)
        hint = why_nothing(collection.catalog, where) if not found and where else None
    printed, drawings = output.split()
    for path in drawings if found else ():
        image.write(found, path)
    table = _table(found)
    for results in printed:
        if found or results.format != "table":
            results.write(found.to_dicts(), _COLUMNS, table=table, whole=asdict(found))
    results = printed[0]
    if not found:
        results.note(hint or "no segment meets that")
    for path in drawings if found else ():
        results.note(f"wrote {path}")
    if found:
        of_all = {(row.period, row.group): (row.of_segments, row.of_recordings) for row in found}
        segments, calls = (sum(each[at] for each in of_all.values()) for at in (0, 1))
        results.note(
            f"of {counted(segments, 'segment')} in {counted(calls, 'call')}, which are the sample of the 95 %; "
            "--format json has the filter of the calls behind each share"
        )


def _table(found: Trends) -> Sequence[Mapping[str, Any]]:
    """Return rows in which a period and a group are named once."""
    rows: list[Mapping[str, Any]] = []
    before: tuple[str | None, str | None] = (None, None)
    for row in found:
        cell = (row.period, row.group)
        group = None if found.group is None else "(none)" if row.group is None else row.group
        rows.append(
            {
                "period": row.period if row.period != before[0] else "",
                "group": group if cell != before or not rows else "",
                "value": bar(row.value, row.share),
                "share": f"{row.share:.1%}",
                "interval": f"{100 * row.low:.0f}–{100 * row.high:.0f}",  # noqa: RUF001 - a dash between numbers
                "segments": f"{row.segments:,} of {row.of_segments:,}",
                "recordings": f"{row.recordings:,} of {row.of_recordings:,}",
            }
        )
        before = cell
    return rows
