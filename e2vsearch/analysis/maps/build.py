"""Maps: a collection laid out in the plane, put into clusters, each described so that a person can act on it.

>>> import e2vsearch
>>> from e2vsearch.analysis import maps
>>> with e2vsearch.open("index") as collection:  # doctest: +SKIP
...     for cluster in maps.make(collection).clusters:
...         print(cluster.name, cluster.size, cluster.moments[0].segment)

`material` reads what is mapped, `projecting` lays it out and clusters it, `describing` says what the clusters are (with
`chance`), `placing` adds what came later, `growth` tells which clusters grew; `writing` makes a file of it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime

import numpy as np

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.maps import cluster_description, dataset, layout, transform
from e2vsearch.analysis.maps.types import (
    Cluster,
    Map,
    MapOptions,
    MapSummary,
    Progress,
)
from e2vsearch.catalog import maps as stored
from e2vsearch.errors import AnalysisError, NotStored
from e2vsearch.types import MAX_NAME, By


def build(
    context: AnalysisContext,
    name: str = "map",
    by: By = "segment",
    where: str | None = None,
    options: MapOptions | None = None,
    progress: Progress | None = None,
) -> Map:
    """Make a map and store it; another one of that name is replaced once this one is done.

    Args:
        context: what is mapped.
        name: to find it by.
        by: what a point is: a segment, or a call with the mean of its segments.
        where: a filter; by call, it says which segments of a call count.
        options: how it is made.
        progress: see `Progress`.

    Raises:
        NoCollection: nothing has been ingested yet.
        BadFilter: `where` does not parse, or names nothing known.
        AnalysisError: too few points, or options that make no sense.
        MissingExtra: the packages of the extra `map` are not installed.
    """
    if by not in ("segment", "recording"):
        raise AnalysisError(f"a map is made by segment or by call, not by {by!r}")
    if not name or len(name) > MAX_NAME:
        raise AnalysisError(f"a map's name has 1 to {MAX_NAME} characters, not {len(name)}")
    layout.require()
    context.catalog.require_space()
    where = dataset.pinned(where)
    ids = stored.items(context.catalog, by, where)
    if not ids.size and where is not None:
        raise AnalysisError(f"no segment meets --where {where!r} - widen it")
    chosen = layout.filled(options or MapOptions(), ids.size)
    known = dataset.facts(context, by, ids, where)
    found = dataset.vectors(context, known, progress)
    order = dataset.order(known)
    laid = layout.lay_out(found.points[order], layout.filled(chosen, len(known.ids)), progress).reordered(order)
    _tell(progress, "describing", 0)
    drawn = cluster_description.Drawn(laid.x, laid.y, laid.cluster, laid.strength)
    clusters = cluster_description.describe(known, found, drawn)
    _tell(progress, "describing", 1)
    run = stored.StoredMap(
        name=name,
        by=by,
        where=where,
        options={"options": asdict(chosen), "versions": layout.versions(), "reach": laid.reach},
        clusters=[asdict(cluster) for cluster in clusters],
        created_at=datetime.now(UTC),
    )
    nothing_placed = np.zeros(len(known.ids), np.bool_)
    points = stored.Points(known.ids, laid.x, laid.y, laid.cluster, laid.strength, nothing_placed)
    stored.save(context.catalog, run, points)
    return load(context, name)


def load(context: AnalysisContext, name: str = "map") -> Map:
    """A stored map as it is now: what was removed since is gone from it, and from its clusters' sizes and moments.

    Emotions, labels, metadata and trends are as they were described when it was made or last placed into.

    Raises:
        NotStored: there is none of that name.
    """
    run, points = _stored(context, name)
    described = [Cluster.from_json(cluster) for cluster in run.clusters]
    named = {moment.segment for cluster in described for moment in cluster.moments}
    numbers = [int(segment.partition(":")[2]) for segment in named]
    there = {segment.id for _, segment in context.catalog.segments(numbers)}
    clusters = []
    for cluster in described:
        inside = points.cluster == cluster.number
        size, calls = int(inside.sum()), int(np.unique(points.recordings[inside]).size)
        moments = tuple(moment for moment in cluster.moments if moment.segment in there)
        share = size / max(len(points.ids), 1)
        clusters.append(replace(cluster, size=size, share=share, calls=calls, moments=moments))
    by: By = "recording" if run.by == "recording" else "segment"
    return Map(
        name=run.name,
        by=by,
        where=run.where,
        created_at=run.created_at,
        options=MapOptions(**run.options["options"]),
        versions=run.options["versions"],
        ids=points.ids,
        recordings=points.recordings,
        recorded_at=points.recorded_at,
        x=points.x,
        y=points.y,
        cluster=points.cluster,
        strength=points.strength,
        placed=points.placed,
        clusters=tuple(cluster for cluster in clusters if cluster.size),
        unplaced=int(dataset.unplaced(context, by, run.where, points.ids).size),
    )


def place(context: AnalysisContext, name: str = "map", progress: Progress | None = None) -> int:
    """Put what a stored map's filter takes and the map does not have yet onto it, without recomputing it.

    Its clusters are described anew, and keep their numbers and names.

    Returns:
        How many segments or calls were placed.

    Raises:
        NotStored: there is no map of that name.
        AnalysisError: nothing is left of what it was made of.
    """
    run, points = _stored(context, name)
    by: By = "recording" if run.by == "recording" else "segment"
    new = dataset.unplaced(context, by, run.where, points.ids)
    if not new.size:
        return 0
    if points.placed.all():
        raise AnalysisError(f"nothing is left of what map {name!r} was made of - make it again with: {_again(name)}")
    known = dataset.facts(context, by, np.union1d(points.ids, new), run.where)
    found = dataset.vectors(context, known, progress)
    where_mapped = np.isin(known.ids, points.ids)
    old, fresh = np.flatnonzero(where_mapped), np.flatnonzero(~where_mapped)
    mapped = np.searchsorted(points.ids, known.ids[old])
    made = ~points.placed[mapped]
    base = transform.Base(
        found.points[old[made]],
        points.x[mapped[made]],
        points.y[mapped[made]],
        points.cluster[mapped[made]],
        points.strength[mapped[made]],
        run.options["reach"],
    )
    put = transform.put(found.points[fresh], base, run.options["options"]["neighbors"], progress)
    x, y, strength = (np.zeros(len(known.ids), np.float32) for _ in range(3))
    cluster = np.zeros(len(known.ids), np.int32)
    for whole, before, now in (
        (x, points.x, put.x),
        (y, points.y, put.y),
        (cluster, points.cluster, put.cluster),
        (strength, points.strength, put.strength),
    ):
        whole[old], whole[fresh] = before[mapped], now
    names = {each["number"]: each["name"] for each in run.clusters}
    clusters = cluster_description.describe(known, found, cluster_description.Drawn(x, y, cluster, strength), names)
    added = stored.Points(known.ids[fresh], put.x, put.y, put.cluster, put.strength, np.ones(len(fresh), np.bool_))
    return stored.add(context.catalog, name, added, [asdict(each) for each in clusters])


def list_maps(context: AnalysisContext) -> tuple[MapSummary, ...]:
    """Every stored map, by name."""
    return tuple(
        MapSummary(
            name=each.map.name,
            by="recording" if each.map.by == "recording" else "segment",
            where=each.map.where,
            created_at=each.map.created_at,
            points=each.points,
            placed=each.placed,
            none=each.none,
            clusters=len(each.map.clusters),
        )
        for each in stored.listing(context.catalog)
    )


def drop(context: AnalysisContext, name: str) -> None:
    """Forget a stored map.

    Raises:
        NotStored: there is none of that name.
    """
    if not stored.drop(context.catalog, name):
        raise _unknown(context, name)


def _stored(context: AnalysisContext, name: str) -> tuple[stored.StoredMap, stored.StoredPoints]:
    found = stored.load(context.catalog, name)
    if found is None:
        raise _unknown(context, name)
    return found


def _unknown(context: AnalysisContext, name: str) -> NotStored:
    names = [each.map.name for each in stored.listing(context.catalog)]
    known = f" (known: {', '.join(names)})" if names else ""
    return NotStored(f"{context.catalog.name} has no map {name!r}{known} - make it with: {_again(name)}")


def _again(name: str) -> str:
    return "e2vsearch map" if name == "map" else f"e2vsearch map --name {name}"


def _tell(progress: Progress | None, named: str, done: int) -> None:
    if progress is not None:
        progress(named, done, 1)
