"""Maps: a collection laid out in the plane, in clusters that are described by emotion, label and metadata.

`dataset` reads the points, `layout` lays them out and clusters them, `cluster_description` describes the clusters,
`transform` places what came later, and `output` writes files.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.maps import cluster_description, dataset, layout, transform
from e2vsearch.analysis.maps.types import Cluster, Layout, Map, MapOptions, MapSummary, Progress
from e2vsearch.catalog import maps as stored
from e2vsearch.catalog import recordings
from e2vsearch.errors import AnalysisError, NotStored
from e2vsearch.types import MAX_NAME, By, number_of


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
        context: the collection's.
        name: of the map.
        by: what a point is: a segment, or a recording with the mean of its segments.
        where: a filter; by recording, which segments count.
        options: how it is made.
        progress: see `Progress`.

    Raises:
        NoCollection: nothing has been ingested yet.
        BadFilter: `where` does not parse, or names nothing known.
        UnlawfulUse: it is of emotion by employee.
        AnalysisError: too few points, or options that make no sense.
        MissingExtra: the packages of the extra `map` are not installed.
    """
    if by not in ("segment", "recording"):
        raise AnalysisError(f"a map is made by segment or by recording, not by {by!r}")
    if not name or len(name) > MAX_NAME:
        raise AnalysisError(f"a map's name has 1 to {MAX_NAME} characters, not {len(name)}")
    layout.require_packages()
    context.catalog.require_space()
    where = dataset.fix_dates(where)
    ids = stored.items(context.catalog, by, where)
    if not ids.size and where is not None:
        raise AnalysisError(f"no segment meets --where {where!r} - widen it")
    chosen = layout.resolve(options or MapOptions(), ids.size)
    data = dataset.load_points(context, by, ids, where)
    vectors = dataset.load_vectors(context, data, progress)
    order = dataset.order_of(data)
    made = layout.lay_out(vectors.points[order], layout.resolve(chosen, len(data.ids)), progress)
    made = made.take(np.argsort(order))
    if progress is not None:
        progress("describing", 0, 1)
    clusters = cluster_description.describe(data, vectors, made)
    if progress is not None:
        progress("describing", 1, 1)
    run = stored.StoredMap(
        name=name,
        by=by,
        where=where,
        options={"options": asdict(chosen), "versions": layout.versions(), "reach": made.reach},
        clusters=[asdict(cluster) for cluster in clusters],
        created_at=datetime.now(UTC),
    )
    stored.save(context.catalog, run, _points(data.ids, made, later=False))
    return load(context, name)


def load(context: AnalysisContext, name: str = "map") -> Map:
    """Return a stored map without what was removed since; sizes and central segments of its clusters follow.

    Emotions, labels, metadata and trends are those of when it was made or last placed into.

    Raises:
        NotStored: there is none of that name.
    """
    run, points = _stored(context, name)
    left_out = tuple(recordings.left_out(context.catalog))
    all_clusters = described(context, run)
    central = {each.segment for cluster in all_clusters for each in cluster.segments}
    kept = {segment.id for _, segment in context.catalog.segments([number_of(each, "seg") for each in central])}
    clusters = []
    for cluster in all_clusters:
        inside = points.cluster == cluster.number
        size, calls = int(inside.sum()), int(np.unique(points.recordings[inside]).size)
        segments = tuple(each for each in cluster.segments if each.segment in kept)
        share = size / max(len(points.ids), 1)
        clusters.append(replace(cluster, size=size, share=share, recordings=calls, segments=segments))
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
        left_out=left_out,
    )


def described(context: AnalysisContext, run: stored.StoredMap) -> list[Cluster]:
    """Return the clusters of a stored map as they were described, without metadata that names employees."""
    left_out = tuple(recordings.left_out(context.catalog))
    return [Cluster.from_json(cluster).without(left_out) for cluster in run.clusters]


def place(context: AnalysisContext, name: str = "map", progress: Progress | None = None) -> int:
    """Place what a stored map's filter admits and the map lacks, without computing it anew.

    Clusters are described anew, and keep their numbers and names.

    Returns:
        The number of segments or recordings placed.

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
    data = dataset.load_points(context, by, np.union1d(points.ids, new), run.where)
    vectors = dataset.load_vectors(context, data, progress)
    mapped = np.isin(data.ids, points.ids)
    old, fresh = np.flatnonzero(mapped), np.flatnonzero(~mapped)
    rows = np.searchsorted(points.ids, data.ids[old])
    before = Layout(points.x, points.y, points.cluster, points.strength, run.options["reach"]).take(rows)
    made = ~points.placed[rows]
    neighbors = run.options["options"]["neighbors"]
    new_layout = transform.transform(
        vectors.points[fresh], vectors.points[old[made]], before.take(made), neighbors, progress
    )
    whole = before.joined(new_layout).take(np.argsort(np.concatenate([old, fresh])))
    names = {each["number"]: each["name"] for each in run.clusters}
    clusters = cluster_description.describe(data, vectors, whole, names)
    added = _points(data.ids[fresh], new_layout, later=True)
    return stored.add(context.catalog, name, added, [asdict(each) for each in clusters])


def list_maps(context: AnalysisContext) -> tuple[MapSummary, ...]:
    """Return every stored map, by name."""
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
    """Delete a stored map.

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


def _points(ids: NDArray[np.int64], layout: Layout, *, later: bool) -> stored.Points:
    return stored.Points(ids, layout.x, layout.y, layout.cluster, layout.strength, np.full(len(ids), later))
