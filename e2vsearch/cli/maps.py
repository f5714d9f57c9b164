"""``map``: a collection as a picture with its clusters in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.options import By, OpenOptions, OutputFormat, Quiet, Where
from e2vsearch.cli.output import SUFFIXES, Results
from e2vsearch.cli.progress import ProgressBar
from e2vsearch.listing import clock

if TYPE_CHECKING:
    from e2vsearch.analysis.maps.types import Cluster, Map
    from e2vsearch.collection import Collection

_SHARE_LEAST = 0.05  # an emotion rarer than that is not listed in the table


@command(
    "map -o map.html",
    "map --by recording --where 'channel = 1' -o map.png",
    "map --show",
)
def map_(
    name: Annotated[str, typer.Option(help="The map's name: another run under it replaces the map.")] = "map",
    by: Annotated[
        By, typer.Option(help="A point is a segment, or a recording with the mean of its segments.")
    ] = "segment",
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
        bool, typer.Option("--place", help="Put what was added since onto the stored map, and compute none.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the stored maps.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Delete the stored map.")] = False,
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
            "(page that plays segments); repeatable.",
        ),
    ] = None,
    *,
    options: OpenOptions,
    format_: OutputFormat = None,
    quiet: Quiet = False,
) -> None:
    """Map a collection in two dimensions. Clusters are described: emotions, metadata, typical segments, trend."""
    from e2vsearch.analysis.maps import types

    if show + place + list_ + drop > 1:
        raise typer.BadParameter("--show, --place, --list and --drop exclude each other")
    tables, drawings = _by_kind(outputs or [])
    printed = [Results(None, path, quiet) for path in tables] or [Results(format_, None, quiet)]
    results = printed[0]
    with options.open() as collection, ProgressBar(quiet) as bar:
        if list_:
            _list(collection, printed)
            return
        if drop:
            collection.maps.drop(name)
            results.note(f"deleted map {name}")
            return
        if place:
            placed = collection.maps.place(name, bar.stage)
            results.note(f"placed {placed:,} new {_points(collection.maps.load(name))}")
        elif not show:
            chosen = types.MapOptions(
                min_cluster_size=min_cluster_size, neighbors=neighbors, min_dist=min_dist, seed=seed
            )
            collection.maps.build(name, by, where, chosen, bar.stage)
        drawn = collection.maps.load(name)
        for path in drawings:
            collection.maps.write(drawn, path, audio_url, bar.stage)
        bar.clear()
        _print(drawn, printed)
        for path in drawings:
            results.note(f"wrote {path}")


def _print(drawn: Map, printed: Sequence[Results]) -> None:
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
    for results in printed:
        results.write(rows, columns, table=table, whole=drawn.without_points())
    none = int((drawn.cluster < 0).sum())
    left = f", {none:,} ({none / len(drawn.ids):.0%}) in none" if none else ""
    within = f" where {drawn.where}" if drawn.where else ""
    printed[0].note(f"{len(drawn.ids):,} {_points(drawn)} in {len(drawn.clusters)} clusters{left}{within}")
    if drawn.left_out:
        named = ", ".join(drawn.left_out)
        printed[0].note(f"left out: {named}, which names employees (EU AI Act, Art. 5(1)(f); e2vsearch policy)")
    if drawn.unplaced:
        again = "--place" if drawn.name == "map" else f"--name {drawn.name} --place"
        printed[0].note(f"{drawn.unplaced:,} {_points(drawn)} are not on it yet: e2vsearch map {again}")


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


def _list(collection: Collection, printed: Sequence[Results]) -> None:
    rows = [asdict(each) for each in collection.maps.list()]
    columns = {"name": "map", "by": "by", "points": "points>", "placed": "placed>", "none": "in none>"}
    columns |= {"clusters": "clusters>", "made": "made", "where": "where"}
    table = [{**row, "made": f"{row['created_at']:%Y-%m-%d %H:%M}"} for row in rows]
    for results in printed:
        results.write_rows(rows, columns, table=table, none="no maps yet - make one with: e2vsearch map")


def _points(drawn: Map) -> str:
    return "segments" if drawn.by == "segment" else "recordings"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _sparkline(values: Sequence[float]) -> str:
    """Return the last of the values as bars, the highest of them full: ``▂▅█``."""
    values = values[-12:] if len(values) > 1 else ()  # a single bar says nothing
    most = max(values, default=0.0)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * value / most)] if most else "▁" for value in values)


def _by_kind(outputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return files for tables of clusters, and files that draw or list the points."""
    from e2vsearch.analysis.maps import output

    for path in outputs:
        if path.suffix.lower() not in (*SUFFIXES, *output.SUFFIXES):
            known = ", ".join((*SUFFIXES, *output.SUFFIXES))
            raise typer.BadParameter(f"{path}: the suffix says what is written: {known}")
        if not path.parent.is_dir():
            raise typer.BadParameter(f"{path}: there is no folder {path.parent}")
    tables = [path for path in outputs if path.suffix.lower() in SUFFIXES]
    return tables, [path for path in outputs if path not in tables]
