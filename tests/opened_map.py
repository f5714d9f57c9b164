"""A map made by hand, and the Map view as tests use it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from opened_page import Visit

import e2vsearch
from e2vsearch.analysis.maps.types import CentralSegment, Cluster, MapOptions, Proportion
from e2vsearch.catalog import maps as stored

CORNERS = ((-0.7, 0.6), (0.7, 0.6), (0.0, -0.7))  # clusters of the map, points turn by turn


def draw_map(index: Path) -> None:
    """Store a map of three clusters, made by hand: the layout itself takes ten seconds of compiling."""
    with e2vsearch.open(index) as collection:
        segments = list(collection.segments())
        numbers = np.array([int(each.id.partition(":")[2]) for each in segments])
        of = (np.arange(len(numbers)) % 3).astype(np.int32)
        apart = 0.04 * np.arange(len(numbers))[:, None] / len(numbers)
        xy = (np.array([CORNERS[at] for at in of]) + apart).astype(np.float32)
        points = stored.Points(
            numbers, xy[:, 0], xy[:, 1], of, np.ones(len(of), np.float32), np.zeros(len(of), np.bool_)
        )
        clusters = []
        for number, name in enumerate(("angry · queue=billing", "sad", "sad · quiet")):
            first = segments[number]
            central = CentralSegment(
                first.id, first.recording, "a call", first.channel, first.start_s, first.end_s, None, None, None, 0.9
            )
            size, emotion = int((of == number).sum()), name.split()[0]
            clusters.append(
                Cluster(
                    number=number,
                    name=name,
                    size=size,
                    share=size / len(of),
                    recordings=size,
                    x=CORNERS[number][0],
                    y=CORNERS[number][1],
                    emotions=(Proportion(emotion, size, 0.9, 2.0),),
                    labels=(),
                    metadata=(),
                    segments=(central,),
                    period="day",
                    trend=(),
                )
            )
        options = {"options": asdict(MapOptions(min_cluster_size=3)), "versions": {}}
        plain = json.loads(json.dumps([asdict(each) for each in clusters]))
        run = stored.StoredMap("map", "segment", None, options, plain, datetime(2026, 3, 1, tzinfo=UTC))
        stored.save(collection.catalog, run, points)


def drawn(seen: Visit) -> Any:
    """The canvas, once all points are on it."""
    seen.page.locator(".view.map[data-ready=yes]").wait_for()
    return seen.page.locator("canvas")


def at(seen: Visit, corner: int) -> tuple[float, float]:
    """Where a cluster of `CORNERS` lies on the canvas, which the whole map fills to 86 %, in pixels of the page."""
    box = seen.page.locator("canvas").bounding_box()
    xs, ys = ([each[axis] for each in CORNERS] for axis in (0, 1))
    scale = 0.86 * min(box["width"] / (max(xs) - min(xs) + 0.04), box["height"] / (max(ys) - min(ys) + 0.04))
    x, y = CORNERS[corner]
    middle = (max(xs) + min(xs) + 0.04) / 2, (max(ys) + min(ys) + 0.04) / 2
    return (
        box["x"] + box["width"] / 2 + (x + 0.02 - middle[0]) * scale,
        box["y"] + box["height"] / 2 - (y + 0.02 - middle[1]) * scale,
    )


def enclose(seen: Visit, corner: int, tool: str) -> None:
    """Draw a line around a cluster."""
    seen.page.get_by_text(tool, exact=True).click()
    x, y = at(seen, corner)
    line = [(-20, -20), (20, -20), (20, 20), (-20, 20)] if tool == "Lasso" else [(-20, -20), (20, 20)]
    seen.page.mouse.move(x + line[0][0], y + line[0][1])
    seen.page.mouse.down()
    for dx, dy in line[1:]:
        seen.page.mouse.move(x + dx, y + dy, steps=8)
    seen.page.mouse.up()
