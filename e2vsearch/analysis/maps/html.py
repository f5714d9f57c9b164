"""A map as one HTML page that needs nothing else: Bokeh draws 100,000 points, a click plays a segment.

Points travel as packed arrays, and what they share (names, emotions, metadata) once. Whatever comes from data reaches
the page as JSON in which no ``<`` is left, and is shown as text, never as markup: a file's name cannot become a script.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps import palette
from e2vsearch.analysis.maps.clips import Clips
from e2vsearch.analysis.maps.dataset import MapData
from e2vsearch.analysis.maps.image import crown, subtitle, title
from e2vsearch.analysis.maps.label_placement import place_labels
from e2vsearch.analysis.maps.types import Map, sound_key
from e2vsearch.errors import AnalysisError, missing_extra
from e2vsearch.files import private_file, unwritable
from e2vsearch.palette import colour_of
from e2vsearch.types import Recording, number_of

_ABSENT = 255  # in an array of bytes: no emotion, no label
_VALUES = len(palette.CATEGORIES)  # of a metadata key that get a colour of their own: the most frequent
_KEYS = 12  # metadata keys that can be coloured by
_NAMED, _LONGEST_NAME = 20, 34  # clusters named on the plot, characters of a name there
_TEXT = 240  # characters of a transcript that are shown
_LETTER, _LINE = 0.0165, 0.06  # width of a letter and height of a line of names, where the plot is 2 high


def write(drawn: Map, data: MapData, path: Path, clips: Clips | None = None, audio_url: str | None = None) -> None:
    """Write the page.

    Args:
        drawn: the map.
        data: of its points, in their order.
        path: the file.
        clips: sounds that lie in the page.
        audio_url: where ``e2vsearch serve`` answers, for every other sound.

    Raises:
        AnalysisError: the file cannot be written, or `audio_url` is none.
        MissingExtra: bokeh is not installed.
    """
    text = render(drawn, data, clips, audio_url)
    try:
        private_file(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise AnalysisError(unwritable(path, error)) from error


def render(drawn: Map, data: MapData, clips: Clips | None = None, audio_url: str | None = None) -> str:
    """Return the page as text; see `write`."""
    try:
        from bokeh.embed import json_item
        from bokeh.resources import Resources
    except ModuleNotFoundError as error:
        raise missing_extra("a page of the map", "map") from error
    origin = _origin(audio_url)
    order = palette.order(drawn.cluster)
    columns, shared = _columns(drawn, data, order)
    modes = _modes(drawn, data, shared)
    columns["shade"] = columns["by_cluster"]
    whole = {
        "by": drawn.by,
        "prefix": "seg:" if drawn.by == "segment" else "call:",
        "audio_url": audio_url.rstrip("/") if audio_url else None,
        "sounds": {"seg": "/segments", "call": "/recordings"},
        "sound_keys": [sound_key(data.recordings[each]) for each in np.unique(data.recording_ids).tolist()],
        "central_keys": {
            each.segment: sound_key(data.recordings[number_of(each.recording, "call")])
            for cluster in drawn.clusters
            for each in cluster.segments
            if number_of(each.recording, "call") in data.recordings
        },
        "clips": clips.sounds if clips else {},
        "missing": clips.missing if clips else [],
        "modes": modes,
        "clusters": _clusters(drawn),
        **shared,
    }
    numbers = [number_of(each, "seg") for each in whole["clips"]]
    ringed = np.isin(drawn.ids, numbers) if drawn.by == "segment" and audio_url is None else np.zeros(0, np.bool_)
    resource = Resources(mode="inline", components=["bokeh", "bokeh-gl"])
    values = {
        "@MEDIA@": origin,
        "@TITLE@": html.escape(title(drawn)),
        "@SUBTITLE@": html.escape(subtitle(drawn)),
        "@SOUND@": html.escape(_sound(drawn, whole["clips"], audio_url)),
        "@DATA@": _inert(whole),
        "@ITEM@": _inert(json_item(_figure(drawn, columns, modes[0]["colours"], ringed), "drawn")),
        "@BOKEH@": "\n".join(resource.js_raw),
    }
    template = resources.files("e2vsearch.analysis.maps").joinpath("page.html").read_text(encoding="utf-8")
    # in one pass: a value that holds another mark stays as it is
    return re.sub("|".join(values), lambda found: values[found.group()], template)


def _sound(drawn: Map, sounds: Mapping[str, str], audio_url: str | None) -> str:
    """Return which points can be heard."""
    if audio_url is not None:
        return f"Click a point to hear it, from {audio_url}."
    if drawn.by == "recording":
        return f"{len(sounds):,} segments have sound in this file, in the list; the map in e2vsearch serve plays all."
    ringed = f"{len(sounds):,} of {len(drawn.ids):,} segments have sound in this file, those with a ring"
    return f"{ringed}: click one to hear it. The map in e2vsearch serve plays all."


def _columns(drawn: Map, data: MapData, order: NDArray[np.int64]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what differs from point to point, as arrays in drawing order, and the values that they index."""
    numbers, recordings = np.unique(data.recording_ids, return_inverse=True)
    emotions, emotion = _coded([point.emotion for point in data.points])
    labels, label = _coded([point.label for point in data.points])
    shades = {cluster.number: at for at, cluster in enumerate(drawn.clusters[: _ABSENT - 1], start=1)}
    columns: dict[str, Any] = {
        "x": drawn.x,
        "y": drawn.y,
        "id": data.ids.astype(np.float64),  # the page has no 64-bit whole numbers; these are exact up to 2^53
        "recording": recordings.astype(np.int32),
        "channel": np.array([-1 if point.channel is None else point.channel for point in data.points], np.int32),
        "start": np.array([point.start_s for point in data.points], np.float32),
        "end": np.array([point.end_s for point in data.points], np.float32),
        "emotion": emotion,
        "score": np.array([point.emotion_score or 0.0 for point in data.points], np.float32),  # 0: no class is named
        "label": label,
        "cluster": drawn.cluster,
        "by_cluster": np.array([shades.get(number, 0) for number in drawn.cluster.tolist()], np.uint8),
        "by_emotion": emotion + np.uint8(1),  # 255 becomes 0: none
        "by_label": label + np.uint8(1),
    }
    named = [data.recordings[number] for number in numbers.tolist()]
    shared = {
        "recordings": [each.name for each in named],
        "dates": [_date(each) for each in named],
        "emotions": emotions,
        "labels": labels,
        "texts": {
            number: point.text[:_TEXT] + "…" * (len(point.text) > _TEXT)
            for number, point in zip(data.ids.tolist(), data.points, strict=True)
            if point.text
        },
    }
    return {name: np.ascontiguousarray(column[order]) for name, column in columns.items()}, shared


def _date(recording: Recording) -> str:
    """Return when a recording was made, "" where only its file's time is known: that is when it was copied here."""
    from_file = abs(recording.recorded_at.timestamp() - recording.mtime_ns / 1e9) < 1
    return "" if from_file else f"{recording.recorded_at:%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def _modes(drawn: Map, data: MapData, shared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what points can be coloured by: each value's name and colour, the first for none or for the rest."""
    colours = palette.colours(drawn.clusters)
    named = drawn.clusters[: _ABSENT - 1]
    modes: list[dict[str, Any]] = [
        {
            "name": "cluster",
            "column": "by_cluster",
            "names": ["in no cluster", *(cluster.name for cluster in named)],
            "colours": [palette.GREY.light, *(colours[cluster.number] for cluster in named)],
        }
    ]
    modes += [
        _mode(name, shared[f"{name}s"], "none") | {"column": f"by_{name}"}
        for name in ("emotion", "label")
        if shared[f"{name}s"]
    ]
    recordings = [data.recordings[number] for number in np.unique(data.recording_ids).tolist()]
    counts: dict[str, Counter[str]] = {}
    for recording in recordings:
        for key, value in recording.metadata.items():
            counts.setdefault(key, Counter())[value] += 1
    useful = [key for key, values in sorted(counts.items()) if 2 <= len(values) <= max(len(recordings) / 2, 2)]
    for key in useful[:_KEYS]:
        values = [value for value, _ in counts[key].most_common(_VALUES)]
        place = {value: at for at, value in enumerate(values, start=1)}
        of_recording = [place.get(each.metadata.get(key, ""), 0) for each in recordings]
        modes.append(_mode(key, values, "none or other") | {"of_recording": of_recording})
    return modes


def _mode(name: str, values: Sequence[str], rest: str) -> dict[str, Any]:
    of_categories = [palette.CATEGORIES[at % len(palette.CATEGORIES)] for at in range(len(values))]
    found = [colour_of(value) for value in values] if name == "emotion" else of_categories
    return {"name": name, "names": [rest, *values], "colours": [each.light for each in (palette.GREY, *found)]}


def _clusters(drawn: Map) -> list[dict[str, Any]]:
    colours = palette.colours(drawn.clusters)
    return [
        asdict(cluster) | {"colour": colours[cluster.number], "shade": at if at < _ABSENT else 0}
        for at, cluster in enumerate(drawn.clusters, start=1)
    ]


def _figure(drawn: Map, columns: Mapping[str, Any], colours: Sequence[str], ringed: NDArray[np.bool_]) -> Any:
    """Return the plot; the page handles pointing and clicking, by events."""
    from bokeh.core.properties import value
    from bokeh.models import ColumnDataSource, CustomJS, HoverTool, LinearColorMapper, TapTool
    from bokeh.plotting import figure

    source = ColumnDataSource(dict(columns), name="points")
    mapper = LinearColorMapper(
        palette=[f"{colour}bf" for colour in colours], low=-0.5, high=len(colours) - 0.5, name="mapper"
    )
    plot = figure(
        sizing_mode="stretch_both",
        output_backend="webgl",
        match_aspect=True,
        toolbar_location="below",
        tools="pan,wheel_zoom,box_zoom,reset,save",
        active_scroll="wheel_zoom",
        outline_line_color=None,
        background_fill_color="#ffffff",
    )
    plot.axis.visible = False
    plot.grid.visible = False
    plot.toolbar.logo = None
    plain = {"field": "shade", "transform": mapper}
    dots = plot.scatter(
        "x",
        "y",
        source=source,
        size=palette.dot(len(drawn.ids), 760**2),  # pixels of a plot on a common screen
        fill_color=plain,
        line_color=None,
        nonselection_fill_color=plain,
        nonselection_fill_alpha=1.0,
        nonselection_line_color=None,
    )
    if ringed.any():
        with_sound = ColumnDataSource({"x": drawn.x[ringed], "y": drawn.y[ringed]}, name="with_sound")
        size = palette.dot(len(drawn.ids), 760**2) + 4
        plot.scatter("x", "y", source=with_sound, size=size, fill_color=None, line_color="#22262b", line_width=1.2)
    ring = ColumnDataSource({"x": [], "y": []}, name="ring")
    plot.scatter("x", "y", source=ring, size=18, fill_color=None, line_color="#111111", line_width=2.5)
    names = plot.text(
        "x",
        "y",
        "text",
        source=_names(drawn),
        text_align="center",
        text_baseline="middle",
        text_font_size="12px",
        text_font=value("system-ui, sans-serif"),
        text_color="#22262b",
        background_fill_color="#ffffff",
        background_fill_alpha=0.86,
        border_line_color="colour",
        border_line_width=1.5,
        border_radius=5,
        padding=4,
    )
    names.name = "names"
    pointed = (
        "const at = cb_data.index.indices[0] ?? null; const {sx, sy} = cb_data.geometry;"
        "window.dispatchEvent(new CustomEvent('e2v-hover', {detail: {at, sx, sy}}))"
    )
    plot.add_tools(HoverTool(renderers=[dots], tooltips=None, callback=CustomJS(code=pointed)))
    plot.add_tools(TapTool(renderers=[dots]))
    tapped = "window.dispatchEvent(new CustomEvent('e2v-tap', {detail: {at: cb_obj.indices[0] ?? null}}))"
    source.selected.js_on_change("indices", CustomJS(code=tapped))
    return plot


def _names(drawn: Map) -> Any:
    from bokeh.models import ColumnDataSource

    clusters = sorted(drawn.clusters, key=lambda each: -each.size)[:_NAMED]
    colours = palette.colours(drawn.clusters)
    texts = [each.name[:_LONGEST_NAME] + "…" * (len(each.name) > _LONGEST_NAME) for each in clusters]
    boxes = [
        (*crown(drawn, cluster), (len(text) + 2) * _LETTER, _LINE)
        for cluster, text in zip(clusters, texts, strict=True)
    ]
    centres = place_labels(
        [(x, y + _LINE / 2, width, height) for x, y, width, height in boxes], (-1.05, -1.05, 1.05, 1.05)
    )
    return ColumnDataSource(
        {
            "x": [x for x, _ in centres],
            "y": [y for _, y in centres],
            "text": texts,
            "colour": [colours[cluster.number] for cluster in clusters],
        }
    )


def _coded(values: Sequence[str | None]) -> tuple[list[str], NDArray[np.uint8]]:
    """Return the distinct values, most frequent first, and the index of each; rarer than the 254th has none."""
    common = Counter(value for value in values if value is not None).most_common(_ABSENT - 1)
    place: dict[Hashable, int] = {value: at for at, (value, _) in enumerate(common)}
    return [value for value, _ in common], np.array([place.get(value, _ABSENT) for value in values], np.uint8)


def _inert(value: Any) -> str:
    """Return JSON that no browser can take for the end of its script or the start of another."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _origin(audio_url: str | None) -> str:
    """Return scheme, host and port of the service, as a content security policy names them; "" without one.

    Raises:
        AnalysisError: it is no http address.
    """
    if audio_url is None:
        return ""
    try:
        parts = urlsplit(audio_url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or not all(each.isalnum() or each in ".-:" for each in host):
        raise AnalysisError(f"--audio-url {audio_url!r} is no address of a service - write e.g. http://127.0.0.1:8080")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"
