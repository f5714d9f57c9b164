"""``map``: a collection as a picture with its clusters in words."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from e2vsearch.cli.options import By, Format, Index, OutputFormat, Quiet, Where
from e2vsearch.cli.output import chosen, clock, note, write

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from e2vsearch.analysis.maps.types import Cluster, Map
    from e2vsearch.collection import Collection


_TABLES = {".json": Format.json, ".jsonl": Format.jsonl, ".csv": Format.csv}

_LINE_EVERY_S = 10.0

_SHARE_LEAST = 0.05  # an emotion rarer than that is not listed in the table


def map_(
    name: Annotated[str, typer.Option(help="The map's name: another run under it replaces the map.")] = "map",
    by: Annotated[By, typer.Option(help="What a point is: a segment, or a call with the mean of its.")] = By.segment,
    where: Where = None,
    min_cluster_size: Annotated[
        int | None,
        typer.Option(
            help="Fewer points than that are no cluster.  [default: 15, or a hundredth of the points if that is more]",
            show_default=False,
        ),
    ] = None,
    neighbors: Annotated[int, typer.Option(help="Of UMAP: fewer show small groups, more the whole.")] = 15,
    min_dist: Annotated[float, typer.Option(help="Of UMAP: the less, the tighter the picture; 0 to 1.")] = 0.1,
    seed: Annotated[int, typer.Option(help="The same collection and seed give the same map.")] = 42,
    show: Annotated[bool, typer.Option("--show", help="Show the stored map, and compute none.")] = False,
    place: Annotated[
        bool, typer.Option("--place", help="Put what came since onto the stored map, and compute none.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the stored maps.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Forget the stored map.")] = False,
    audio_url: Annotated[
        str | None,
        typer.Option(help="Where e2vsearch serve answers, for sounds in .html and .parquet.", metavar="URL"),
    ] = None,
    outputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="Write to this file: .json, .jsonl, .csv (clusters), .parquet (points), .png, .svg (picture) or .html "
            "(page that plays segments). May be given several times.",
        ),
    ] = None,
    index: Index = None,
    format_: OutputFormat = None,
    quiet: Quiet = False,
) -> None:
    """Lay a collection out in the plane and say what its clusters are: emotions, metadata, segments, trend."""
    import e2vsearch
    from e2vsearch.analysis.maps import types

    if show + place + list_ + drop > 1:
        raise typer.BadParameter("--show, --place, --list and --drop exclude each other")
    files = _sorted(outputs or [])
    with e2vsearch.open(index, create=False) as collection, _Stages(quiet) as stages:
        if list_:
            _list(collection, format_, files)
            return
        if drop:
            collection.maps.drop(name)
            note(f"forgot map {name}", quiet=quiet)
            return
        if place:
            placed = collection.maps.place(name, stages)
            note(f"placed {placed:,} new {_points(collection.maps.load(name))}", quiet=quiet)
        elif not show:
            options = types.MapOptions(
                min_cluster_size=min_cluster_size, neighbors=neighbors, min_dist=min_dist, seed=seed
            )
            collection.maps.build(name, by.value, where, options, stages)
        drawn = collection.maps.load(name)
        for path in files.drawings:
            collection.maps.write(drawn, path, audio_url, stages)
        stages.clear()
        _print(drawn, format_, files.tables, quiet=quiet)
        for path in files.drawings:
            note(f"wrote {path}", quiet=quiet)


# -- what is printed -------------------------------------------------------------------------------------------


def _print(drawn: Map, format_: Format | None, files: Sequence[Path], *, quiet: bool) -> None:
    columns = {
        "number": "#>",
        "name": "cluster",
        "size": f"{_points(drawn)}>",
        "share": "share>",
        "recordings": "recordings>",
        "emotions": "emotions (x as common as on the whole map)",
        "metadata": "over-represented",
        "trend": "trend",
        "segment": "listen to",
    }
    rows = [asdict(cluster) for cluster in drawn.clusters]
    table = [_row(cluster) for cluster in drawn.clusters]
    _write(rows, format_, files, columns=columns, table=table, whole=drawn.without_points())
    none = int((drawn.cluster < 0).sum())
    left = f", {none:,} ({none / len(drawn.ids):.0%}) in none" if none else ""
    within = f" where {drawn.where}" if drawn.where else ""
    note(f"{len(drawn.ids):,} {_points(drawn)} in {len(drawn.clusters)} clusters{left}{within}", quiet=quiet)
    if drawn.unplaced:
        again = "--place" if drawn.name == "map" else f"--name {drawn.name} --place"
        note(f"{drawn.unplaced:,} {_points(drawn)} are not on it yet: e2vsearch map {again}", quiet=quiet)


def _row(cluster: Cluster) -> dict[str, Any]:
    emotions = [each for each in cluster.emotions if each.share >= _SHARE_LEAST][:3]
    segment = cluster.segments[0] if cluster.segments else None
    return {
        "number": cluster.number,
        "name": cluster.name,
        "size": f"{cluster.size:,}",
        "share": f"{cluster.share:.0%}",
        "recordings": f"{cluster.recordings:,}",
        "emotions": ", ".join(f"{each.name} {each.share:.0%} ({each.lift:.1f}x)" for each in emotions),
        "metadata": ", ".join(
            f"{each.key}={each.value} {each.recordings:,} recordings ({each.lift:.1f}x, p {_p(each.p)})"
            for each in cluster.metadata[:2]
        ),
        "trend": _sparkline([step.share for step in cluster.trend]),
        "segment": f"{segment.segment} {segment.name} {clock(segment.start_s)}" if segment else "",
    }


def _list(collection: Collection, format_: Format | None, files: _Files) -> None:

    rows = [asdict(each) for each in collection.maps.list()]
    if not rows and not files.tables and chosen(format_, None) is Format.table:
        note("no maps yet - make one with: e2vsearch map")
        return
    columns = {"name": "map", "by": "by", "points": "points>", "placed": "placed>", "none": "in none>"}
    columns |= {"clusters": "clusters>", "made": "made", "where": "where"}
    table = [{**row, "made": f"{row['created_at']:%Y-%m-%d %H:%M}"} for row in rows]
    _write(rows, format_, files.tables, columns=columns, table=table)


def _write(
    rows: Sequence[Mapping[str, Any]],
    format_: Format | None,
    files: Sequence[Path],
    *,
    columns: Mapping[str, str],
    table: Sequence[Mapping[str, Any]],
    whole: Mapping[str, Any] | None = None,
) -> None:
    """To each file in the format of its suffix, or to stdout where there is none."""
    for path in files:
        write(rows, format_=_TABLES[path.suffix.lower()], output=path, columns=columns, table=table, whole=whole)
    if not files:
        write(rows, format_=format_, columns=columns, table=table, whole=whole)


def _points(drawn: Map) -> str:
    return f"{drawn.by}s"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _sparkline(values: Sequence[float]) -> str:
    """The last of the values as bars, the highest of them full: ``▂▅█``."""
    values = values[-12:] if len(values) > 1 else ()  # a single bar says nothing
    most = max(values, default=0.0)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * value / most)] if most else "▁" for value in values)


# -- what is written -------------------------------------------------------------------------------------------


class _Files:
    """Files to be written: tables of clusters, and what draws or lists the points."""

    def __init__(self, tables: list[Path], drawings: list[Path]) -> None:
        self.tables, self.drawings = tables, drawings


def _sorted(outputs: Sequence[Path]) -> _Files:
    from e2vsearch.analysis.maps.output import SUFFIXES

    for path in outputs:
        if path.suffix.lower() not in (*_TABLES, *SUFFIXES):
            known = ", ".join((*_TABLES, *SUFFIXES))
            raise typer.BadParameter(f"{path}: the suffix says what is written: {known}")
        if not path.parent.is_dir():
            raise typer.BadParameter(f"{path}: there is no folder {path.parent}")
    tables = [path for path in outputs if path.suffix.lower() in _TABLES]
    return _Files(tables, [path for path in outputs if path not in tables])


# -- progress --------------------------------------------------------------------------------------------------


class _Stages:
    """Shows what is being done: a bar on a terminal; elsewhere a line a stage that has lasted ten seconds."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far one stage is."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=stage, completed=done, total=total if done else None)
        elif not self._quiet and time.monotonic() - self._last >= _LINE_EVERY_S:
            self._last = time.monotonic()
            typer.echo(f"{stage}: {done:,} of {total:,}" if total > 1 else stage, err=True)

    def clear(self) -> None:
        """Take the bar away before anything is printed."""
        if self._bar is not None:
            self._bar.stop()
