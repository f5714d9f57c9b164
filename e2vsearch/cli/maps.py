"""``map``: a collection as a picture with its clusters in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vsearch.cli.command import OUTPUT, command, group
from e2vsearch.cli.options import By, OpenOptions, OutputFormat, Quiet, RawCsv, Where
from e2vsearch.cli.output import Results, check_outputs, counted, split_outputs
from e2vsearch.cli.progress import ProgressBar
from e2vsearch.cli.table import Column
from e2vsearch.display import clock

if TYPE_CHECKING:
    from e2vsearch.analysis.maps.types import Cluster, Map, TrendPoint
    from e2vsearch.collection import Collection

_BARS = 12
_SHARE_LEAST = 0.05  # an emotion rarer than that is not listed in the table


_Name = Annotated[str, typer.Option(help="The map's name.")]
_AudioUrl = Annotated[
    str | None, typer.Option(help="Where e2vsearch serve answers, for sounds in .html and .parquet.", metavar="URL")
]
_MOVED = {f"--{each}": f"e2vsearch map {each}" for each in ("show", "place", "list", "drop")}


@dataclass(frozen=True, slots=True)
class MapOutput:
    """Options of where a map is written."""

    outputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="Write to this file: .json, .jsonl, .csv, .txt (clusters), .parquet (points), .png, .svg (picture) or "
            ".html (page that plays segments); repeatable.",
            metavar="FILE",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    audio_url: _AudioUrl = None
    format_: OutputFormat = None
    quiet: Quiet = False
    raw_csv: RawCsv = False

    def __post_init__(self) -> None:
        """Refuse a file that cannot be written before a map is made for it."""
        from e2vsearch.analysis.maps import output

        check_outputs(self.outputs or (), output.SUFFIXES)

    def split(self) -> tuple[list[Results], list[Path]]:
        """Return what prints the clusters, and the files of pictures and pages."""
        return split_outputs(self.outputs or (), self.format_, quiet=self.quiet, raw_csv=self.raw_csv)

    def show(self, collection: Collection, name: str, bar: ProgressBar) -> None:
        """Print the clusters of a stored map, and draw it."""
        printed, drawings = self.split()
        drawn = collection.maps.load(name)
        for path in drawings:
            collection.maps.write(drawn, path, self.audio_url, bar.stage)
        bar.clear()
        _print(drawn, printed)
        for path in drawings:
            printed[0].note(f"wrote {path}")


@command(
    "map -o map.html",
    "map build --by recording --where 'channel = 1' -o map.png",
    moved=_MOVED,
)
def build(
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
    *,
    options: OpenOptions,
    output: MapOutput,
) -> None:
    """Map a collection in two dimensions. Clusters are described: emotions, metadata, typical segments, trend."""
    from e2vsearch.analysis.maps import types

    chosen = types.MapOptions(min_cluster_size=min_cluster_size, neighbors=neighbors, min_dist=min_dist, seed=seed)
    with options.open() as collection, ProgressBar(output.quiet) as bar:
        collection.maps.build(name, by, where, chosen, bar.stage)
        output.show(collection, name, bar)


@command("map show", "map show --name april -o april.html")
def show(name: _Name = "map", *, options: OpenOptions, output: MapOutput) -> None:
    """Show a stored map's clusters, or write it again."""
    with options.open() as collection, ProgressBar(output.quiet) as bar:
        output.show(collection, name, bar)


@command("map place", "map place -o map.html")
def place(name: _Name = "map", *, options: OpenOptions, output: MapOutput) -> None:
    """Put what was added since onto a stored map. Nothing that is on it moves."""
    with options.open() as collection, ProgressBar(output.quiet) as bar:
        placed = collection.maps.place(name, bar.stage)
        bar.clear()
        output.split()[0][0].note(f"placed {placed:,} new {_points(collection.maps.load(name))}")
        output.show(collection, name, bar)


@command("map list")
def list_(*, options: OpenOptions, results: Results) -> None:
    """List the stored maps."""
    with options.open() as collection:
        rows = [asdict(each) for each in collection.maps.list()]
    columns: dict[str, str | Column] = {
        "name": "map~",
        "by": "by",
        "points": "points>",
        "placed": "placed>",
        "none": "in none>",
    }
    columns |= {"clusters": "clusters>", "made": "made (UTC)", "where": Column(fit="wrap", below=True)}
    table = [{**row, "made": f"{row['created_at']:%Y-%m-%d %H:%M}", "where": _where(row["where"])} for row in rows]
    results.write_rows(rows, columns, table=table, none="no maps yet - make one with: e2vsearch map")


@command("map drop", "map drop --name april")
def drop(name: _Name = "map", *, options: OpenOptions, results: Results) -> None:
    """Delete a stored map; the collection stays as it is."""
    with options.open() as collection:
        collection.maps.drop(name)
    results.write_report({"map": name, "dropped": True}, f"deleted map {name}")


map_ = group(
    "map", "A collection as a picture, with its clusters in words.", build, show, place, list_, drop, main="build"
)


def _print(drawn: Map, printed: Sequence[Results]) -> None:
    columns: dict[str, str | Column] = {
        "number": "#>",
        "name": "cluster~",
        "size": f"{_points(drawn)}>",
        "share": "share>",
        "recordings": "recordings>",
        "segment": "listen to",
        "of": "in~",
        "at": "at",
        "emotions": Column(fit="wrap", below=True),
        "metadata": Column(fit="wrap", below=True),
        "trend": Column(fit="wrap", below=True),
    }
    rows = [asdict(cluster) for cluster in drawn.clusters]
    table = [_row(cluster) for cluster in drawn.clusters]
    for results in printed:
        results.write(rows, columns, table=table, whole=drawn.without_points())
    none = int((drawn.cluster < 0).sum())
    left = f", {none:,} ({none / len(drawn.ids):.0%}) in none" if none else ""
    within = f" where {drawn.where}" if drawn.where else ""
    if printed[0].format == "table":
        printed[0].note("under a cluster: its emotions, and how many times as common they are as on the whole map")
    printed[0].note(f"{len(drawn.ids):,} {_points(drawn)} in {len(drawn.clusters)} clusters{left}{within}")
    if drawn.left_out:
        named = ", ".join(drawn.left_out)
        printed[0].note(f"left out: {named}, which names employees (EU AI Act, Art. 5(1)(f); e2vsearch policy)")
    if drawn.unplaced:
        named = "" if drawn.name == "map" else f" --name {drawn.name}"
        printed[0].note(f"{drawn.unplaced:,} {_points(drawn)} are not on it yet: e2vsearch map place{named}")


def _row(cluster: Cluster) -> dict[str, Any]:
    found = [each for each in cluster.emotions if each.share >= _SHARE_LEAST][:3]
    emotions = ", ".join(f"{each.name} {each.share:.0%} ({each.lift:.1f}x)" for each in found)
    metadata = ", ".join(
        f"{each.key}={each.value} {counted(each.recordings, 'recording')} ({each.lift:.1f}x, p {_p(each.p)})"
        for each in cluster.metadata[:2]
    )
    segment = cluster.segments[0] if cluster.segments else None
    return {
        "number": cluster.number,
        "name": cluster.name,
        "size": f"{cluster.size:,}",
        "share": f"{cluster.share:.0%}",
        "recordings": f"{cluster.recordings:,}",
        "emotions": emotions,
        "metadata": f"over-represented: {metadata}" if metadata else None,
        "trend": _trend(cluster.trend),
        "segment": segment.segment if segment else None,
        "of": segment.name if segment else None,
        "at": clock(segment.start_s) if segment else None,
    }


def _where(condition: str | None) -> str:
    return f"where {condition}" if condition else ""


def _points(drawn: Map) -> str:
    return "segments" if drawn.by == "segment" else "recordings"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _trend(trend: Sequence[TrendPoint]) -> str:
    """Return its last shares as bars, the highest of them full: ``▂▅█ 2024-03-01 to 2024-03-15, at most 40%``."""
    last = trend[-_BARS:] if len(trend) > 1 else ()  # a single bar says nothing
    most = max((each.share for each in last), default=0.0)
    if not most:
        return ""
    bars = "".join("▁▂▃▄▅▆▇█"[round(7 * each.share / most)] for each in last)
    return f"over time {bars} {last[0].start} to {last[-1].start}, at most {most:.0%} of recordings"
