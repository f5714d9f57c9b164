"""A `Query` becomes the body of a request: JSON, or a form with the one clip that the service does not hold."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from e2vsearch.errors import AudioNotFound, QueryError
from e2vsearch.files import local_path
from e2vsearch.search.query import AVOID_WEIGHT, AudioQuery, Query, Reference, identifier_of

MAX_VECTOR = 4096
"""Numbers of a vector; an array with longer rows is 16 kHz samples: a quarter of a second, and no speech is shorter."""

_NAMES = ("emotion:", "label:")
_AS_THEY_ARE = ("k", "by", "where", "text", "min_probability", "explain", "exact", "include_self", "consistency")


@dataclass(frozen=True, slots=True)
class Clip:
    """Audio that is sent along."""

    data: bytes = field(repr=False)
    filename: str  # for the form: its suffix tells formats that have no header, and no name is given away
    name: str  # the caller's


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a query's request: JSON, or the fields of a form with a clip."""

    json: dict[str, Any]
    clip: Clip | None = None

    @property
    def form(self) -> dict[str, str]:
        """The fields of a form: lists and objects are JSON there."""
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.json.items()}


def stored_or_clip(source: AudioQuery) -> str | list[list[float]] | Clip:
    """Return an id or a name as it is, vectors as lists, or audio as a clip.

    Raises:
        AudioNotFound, AudioNotAFile, AudioForbidden: no file here that may be read.
        VectorFileError: an ``.npy`` file that holds no vectors.
    """
    identifier = identifier_of(source)
    if identifier is not None:
        return identifier
    if isinstance(source, str) and source.startswith(_NAMES):
        return source
    if isinstance(source, bytes):
        return _clip(source, "", "audio bytes")
    if isinstance(source, str | os.PathLike):
        return _from_file(source)
    array = np.asarray(source)
    if array.ndim in (1, 2) and array.size and array.shape[-1] <= MAX_VECTOR:
        rows: list[list[float]] = np.atleast_2d(array).astype(np.float64).tolist()
        return rows
    return _clip(_wav(array), ".wav", "audio samples")


def body_of(query: Query) -> Body:
    """Return what a query is sent as.

    Raises:
        QueryError: the service has no room for it: more than one clip, or a clip beside what a form does not take.
        AudioError, VectorFileError: a file that cannot be read here.
    """
    default = Query(references=("seg:1",))  # type: ignore[arg-type]
    body = {name: getattr(query, name) for name in _AS_THEY_ARE if getattr(query, name) != getattr(default, name)}
    body |= {"emotion": dict(query.emotions)} if query.emotions else {}
    if query.group_by:
        size = query.group_size
        body |= {"group_by": list(query.group_by), "group_size": size if isinstance(size, int) else list(size)}
    if query.named_vectors:
        body["named_vectors"] = {name: _weighed(each) for name, each in query.named_vectors.items()}
    clips = []
    for name, weights, references, absent in (
        ("references", "weights", query.references, None),
        ("avoid", "avoid_weights", query.avoid, AVOID_WEIGHT),
    ):
        sent, weighed, found = _references(references, absent)
        clips += [(name, each) for each in found]
        body |= ({name: sent} if sent else {}) | ({weights: weighed} if sent and weighed is not None else {})
    if query.trajectory is not None:
        stages = [stored_or_clip(each) for each in _stages(query.trajectory)]
        clips += [("trajectory", each) for each in stages if isinstance(each, Clip)]
        if any(isinstance(each, list) for each in stages):
            raise QueryError("a trajectory by HTTP is of recordings and names, not of vectors - name an id or a clip")
        body["trajectory"] = stages[0] if len(stages) == 1 else stages
    return _with_clip(query, body, clips) if clips else Body(body)


def _with_clip(query: Query, body: dict[str, Any], clips: list[tuple[str, Clip]]) -> Body:
    """Return the form of a query with a clip, whose fields are fewer."""
    (name, clip), *others = clips
    alone = body.get("references") is None if name == "references" else not isinstance(body.get(name), list)
    weighed = name == "references" and query.references[0].weight is not None
    if others or name == "avoid" or not alone or weighed or len(query.group_by) > 1 or query.named_vectors:
        raise QueryError(
            "by HTTP a clip is the one reference, without a weight, named vectors or several groups - send less with "
            "it, or ingest it and give its id"
        )
    body.pop("references", None)
    body |= {"trajectory": True} if name == "trajectory" else {}
    body |= {"group_by": query.group_by[0]} if query.group_by else {}
    return Body(body, clip)


def _references(
    references: Sequence[Reference], absent: float | None
) -> tuple[list[Any], list[float] | None, list[Clip]]:
    """Return references as JSON has them, a weight for each if there are any, and those that are clips."""
    sent: list[Any] = []
    weights: list[float | None] = []
    clips = []
    for each in references:
        found = stored_or_clip(each.source)
        if isinstance(found, Clip):
            clips.append(found)
            continue
        rows = found if isinstance(found, list) else [found]
        if len(rows) > 1 and each.weight is not None:
            raise QueryError("by HTTP a weight is of one vector - weigh each of them")
        sent += rows
        weights += [each.weight] * len(rows)
    if all(each is None for each in weights):
        return sent, None, clips
    filled = [absent if each is None else each for each in weights]
    if None in filled:
        raise QueryError("by HTTP all references have a weight, or none has - give one to each")
    return sent, [each for each in filled if each is not None], clips


def _stages(trajectory: Any) -> list[AudioQuery]:
    if isinstance(trajectory, list | tuple):
        return list(trajectory)
    if isinstance(trajectory, str) and trajectory.startswith(_NAMES):
        return [each.strip() for each in trajectory.split(",")]
    return [trajectory]


def _weighed(given: Any) -> Any:
    if not isinstance(given, tuple):
        return given
    weight, reference = given
    if not isinstance(reference, str | None):
        reference = np.asarray(reference, np.float64).reshape(-1).tolist()
    return {"weight": weight, "reference": reference}


def _from_file(named: str | os.PathLike[str]) -> list[list[float]] | Clip:
    from e2vsearch.audio.sources import opened

    path = local_path(named)
    if path.suffix.lower() == ".npy":
        from e2vsearch.encoders import embedding_files

        rows: list[list[float]] = np.atleast_2d(embedding_files.read_vectors(path, None)).astype(np.float64).tolist()
        return rows
    try:
        with opened(path) as found:
            return _clip(found.file.read(), path.suffix.lower(), str(path))
    except AudioNotFound as error:
        raise AudioNotFound(f"{named} is no file here - names are written emotion:angry, ids seg:14") from error


def _clip(data: bytes, suffix: str, name: str) -> Clip:
    return Clip(data, f"clip{suffix}", name)


def _wav(samples: Any) -> bytes:
    """Return 16 kHz samples as a WAV file of floats, from which they come back bit for bit."""
    import soundfile

    from e2vsearch.audio import SAMPLING_RATE_HZ
    from e2vsearch.audio.sources import floats, planes

    buffer = io.BytesIO()
    soundfile.write(buffer, floats(planes(samples)).T, SAMPLING_RATE_HZ, "FLOAT", format="WAV")
    return buffer.getvalue()
