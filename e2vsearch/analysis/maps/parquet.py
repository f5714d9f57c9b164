"""A map's points as Parquet, one row each, for Embedding Atlas, pandas or DuckDB. Knows what is known of points.

    uvx embedding-atlas map.parquet --x x --y y --text text

A column of ``http://…/audio`` addresses is shown there as players.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2vsearch.analysis.maps.dataset import Facts
from e2vsearch.analysis.maps.types import Map
from e2vsearch.errors import AnalysisError, missing_extra


def write(drawn: Map, known: Facts, path: Path, audio_url: str | None = None) -> None:
    """Write the points.

    Args:
        drawn: the map.
        known: of its points, in their order.
        path: the file.
        audio_url: where ``e2vsearch serve`` answers, such as ``http://127.0.0.1:8080``; adds the column `audio`.

    Raises:
        AnalysisError: the file cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing_extra("a Parquet file of the map", "map") from error
    names = {cluster.number: cluster.name for cluster in drawn.clusters}
    calls = [known.calls[number] for number in known.recordings.tolist()]
    columns: dict[str, Any] = {
        "id": [item.id for item in known.items],
        "x": drawn.x,
        "y": drawn.y,
        "cluster": drawn.cluster,
        "cluster_name": [names.get(number) for number in drawn.cluster.tolist()],
        "strength": drawn.strength,
        "placed": drawn.placed,
        "recording": [item.recording for item in known.items],
        "name": [call.name for call in calls],
        "uri": [call.uri for call in calls],
        "recorded_at": pa.array([call.recorded_at for call in calls], pa.timestamp("ms", "UTC")),
        "channel": pa.array([item.channel for item in known.items], pa.int32()),
        "start_s": [item.start_s for item in known.items],
        "end_s": [item.end_s for item in known.items],
        "emotion": pa.array([item.emotion for item in known.items], pa.string()),
        "emotion_score": pa.array([item.emotion_score for item in known.items], pa.float64()),
        "arousal": pa.array([item.arousal for item in known.items], pa.float64()),
        "valence": pa.array([item.valence for item in known.items], pa.float64()),
        "label": pa.array([item.label for item in known.items], pa.string()),
        "label_score": pa.array([item.label_score for item in known.items], pa.float64()),
        "text": pa.array([item.text for item in known.items], pa.string()),
    }
    for emotion in dict.fromkeys(name for item in known.items for name in item.scores):
        columns[f"score.{emotion}"] = pa.array([item.scores.get(emotion) for item in known.items], pa.float32())
    for key in sorted({key for call in known.calls.values() for key in call.metadata}):
        columns[f"meta.{key}"] = pa.array([call.metadata.get(key) for call in calls], pa.string())
    if audio_url is not None:
        columns["audio"] = [sound(audio_url, item.id) for item in known.items]
    try:
        pq.write_table(pa.table(columns), path, compression="zstd")
    except OSError as error:
        raise AnalysisError(f"{path} cannot be written: {error.strerror or error}") from error


def sound(audio_url: str, identifier: str) -> str:
    """Where a running service has the sound of a segment (``seg:1``) or a call (``call:1``)."""
    kind = "segments" if identifier.startswith("seg:") else "recordings"
    return f"{audio_url.rstrip('/')}/{kind}/{identifier}/audio"
