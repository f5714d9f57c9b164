"""A map's points as Parquet, one row each, for Embedding Atlas, pandas or DuckDB.

    uvx embedding-atlas map.parquet --x x --y y --text text

A column of ``http://…/audio`` addresses is shown there as players.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2vsearch.analysis.maps.dataset import MapData
from e2vsearch.analysis.maps.types import Map, sound_key
from e2vsearch.errors import AnalysisError, missing_extra
from e2vsearch.files import private_file, unwritable
from e2vsearch.types import Recording


def write(drawn: Map, data: MapData, path: Path, audio_url: str | None = None) -> None:
    """Write the points.

    Args:
        drawn: the map.
        data: of its points, in their order.
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
    recordings = [data.recordings[number] for number in data.recording_ids.tolist()]
    columns: dict[str, Any] = {
        "id": [point.id for point in data.points],
        "x": drawn.x,
        "y": drawn.y,
        "cluster": drawn.cluster,
        "cluster_name": [names.get(number) for number in drawn.cluster.tolist()],
        "strength": drawn.strength,
        "placed": drawn.placed,
        "recording": [point.recording for point in data.points],
        "name": [each.name for each in recordings],
        "uri": [each.uri for each in recordings],
        "recorded_at": pa.array([each.recorded_at for each in recordings], pa.timestamp("ms", "UTC")),
        "channel": pa.array([point.channel for point in data.points], pa.int32()),
        "start_s": [point.start_s for point in data.points],
        "end_s": [point.end_s for point in data.points],
        "emotion": pa.array([point.emotion for point in data.points], pa.string()),
        "emotion_score": pa.array([point.emotion_score for point in data.points], pa.float64()),
        "arousal": pa.array([point.arousal for point in data.points], pa.float64()),
        "valence": pa.array([point.valence for point in data.points], pa.float64()),
        "label": pa.array([point.label for point in data.points], pa.string()),
        "label_score": pa.array([point.label_score for point in data.points], pa.float64()),
        "text": pa.array([point.text for point in data.points], pa.string()),
    }
    for emotion in dict.fromkeys(name for point in data.points for name in point.scores):
        columns[f"score.{emotion}"] = pa.array([point.scores.get(emotion) for point in data.points], pa.float32())
    for key in sorted({key for each in data.recordings.values() for key in each.metadata}):
        columns[f"meta.{key}"] = pa.array([each.metadata.get(key) for each in recordings], pa.string())
    if audio_url is not None:
        columns["audio"] = [
            sound(audio_url, point.id, recording) for point, recording in zip(data.points, recordings, strict=True)
        ]
    try:
        pq.write_table(pa.table(columns), private_file(path), compression="zstd")
    except OSError as error:
        raise AnalysisError(unwritable(path, error)) from error


def sound(audio_url: str, identifier: str, recording: Recording) -> str:
    """Return the address of the sound of a segment (``seg:1``) or recording (``call:1``) on a running service."""
    kind = "segments" if identifier.startswith("seg:") else "recordings"
    return f"{audio_url.rstrip('/')}/{kind}/{identifier}/audio?sha256={sound_key(recording)}"
