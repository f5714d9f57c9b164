"""Each route of the service as a call: the request, and the type that its answer becomes.

`Client` and `AsyncClient` only send them, so that nothing is said twice. Types are imported when a call is made: those
of labels and timelines bring SQLAlchemy along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast
from urllib.parse import quote

import httpx

from e2vsearch.client.query_body import Clip, body_of, stored_or_clip
from e2vsearch.client.rebuild import error_of, rebuild
from e2vsearch.errors import E2vsearchError, QueryError
from e2vsearch.search.query import AudioQuery, Query
from e2vsearch.search.result import QueryResult
from e2vsearch.types import Comparison, Hit, Recording, Segment, Status, number_of, recording_id, segment_id

if TYPE_CHECKING:
    from e2vsearch.analysis.labels.types import LabelReport
    from e2vsearch.analysis.timeline import Timeline
    from e2vsearch.server import results

T = TypeVar("T")
Stored = str | Hit | Segment | Recording
"""An id, ``call:45`` or ``seg:123``, or a result that has one."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and what its answer becomes."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    returns: type[T]
    json: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)  # those that are None are left out
    form: Mapping[str, str] = field(default_factory=dict)
    clips: Mapping[str, Clip] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `httpx.Client.request`."""
        given: dict[str, Any] = {"method": self.method, "url": self.path}
        if self.clips:
            files = {name: (clip.filename, clip.data) for name, clip in self.clips.items()}
            return given | {"files": files, "data": dict(self.form)}
        params = {name: value for name, value in self.params.items() if value is not None}
        return given | {"params": params} | ({} if self.json is None else {"json": self.json})

    def result(self, response: httpx.Response) -> T:
        """Return what the service answered.

        Raises:
            E2vsearchError: the kind of error that the service answered with, and its text.
        """
        try:
            body = response.json()
        except ValueError:
            body = None
        names = {clip.filename: clip.name for clip in self.clips.values()}
        if not response.is_success or body is None:
            raise _renamed(error_of(response.status_code, body), names)
        found = rebuild(self.returns, body)
        return cast(T, found.with_reference_names(names)) if isinstance(found, QueryResult) else found


def query(asked: Query) -> Call[QueryResult]:
    """``POST /query``, or with a clip ``/query/upload``."""
    body = body_of(asked)
    if body.clip is None:
        return Call("POST", "/query", QueryResult, json=body.json)
    return Call("POST", "/query/upload", QueryResult, form=body.form, clips={"file": body.clip})


def compare(a: AudioQuery, b: AudioQuery) -> Call[Comparison]:
    """``POST /compare``, or of two clips ``/compare/upload``."""
    sides = {"a": stored_or_clip(a), "b": stored_or_clip(b)}
    clips = {name: side for name, side in sides.items() if isinstance(side, Clip)}
    ids = {name: side for name, side in sides.items() if isinstance(side, str)}
    if len(clips) == 2:
        named = {name: Clip(clip.data, f"{name}-{clip.filename}", clip.name) for name, clip in clips.items()}
        return Call("POST", "/compare/upload", Comparison, clips=named)
    if len(ids) == 2:
        return Call("POST", "/compare", Comparison, json=ids)
    raise QueryError("by HTTP two clips are compared, or two ids - ingest the clip, and give its id")


def embed(source: AudioQuery) -> Call[results.Embedding]:
    """``POST /embed``, or of a clip ``/embed/upload``."""
    from e2vsearch.server.results import Embedding

    return _of_one("/embed", Embedding, source, {})


def classify(source: AudioQuery, classifier: str | None) -> Call[results.Classification]:
    """``POST /classify``, or of a clip ``/classify/upload``."""
    from e2vsearch.server.results import Classification

    return _of_one("/classify", Classification, source, {} if classifier is None else {"classifier": classifier})


def recordings(
    where: str | None, text: str | None, order: Literal["id", "newest"], limit: int, after: str | None
) -> Call[results.RecordingPage]:
    """``GET /recordings``."""
    from e2vsearch.server.results import RecordingPage

    asked = {"where": where, "text": text, "order": order, "limit": limit, "after": after}
    return Call("GET", "/recordings", RecordingPage, params=asked)


def recording(name: Stored) -> Call[results.RecordingSegments]:
    """``GET /recordings/{id}``."""
    from e2vsearch.server.results import RecordingSegments

    return Call("GET", f"/recordings/{_recording_id(name)}", RecordingSegments)


def timeline(name: Stored) -> Call[Timeline]:
    """``GET /recordings/{id}/timeline``."""
    from e2vsearch.analysis.timeline import Timeline

    return Call("GET", f"/recordings/{_recording_id(name)}/timeline", Timeline)


def segment(name: Stored) -> Call[results.SegmentRecording]:
    """``GET /segments/{id}``."""
    from e2vsearch.server.results import SegmentRecording

    return Call("GET", f"/segments/{segment_id(number_of(_id(name), 'seg'))}", SegmentRecording)


def filters() -> Call[results.Filters]:
    """``GET /filters``."""
    from e2vsearch.server.results import Filters

    return Call("GET", "/filters", Filters)


def status() -> Call[Status]:
    """``GET /status``."""
    return Call("GET", "/status", Status)


def labels() -> Call[results.Labels]:
    """``GET /labels``."""
    from e2vsearch.server.results import Labels

    return Call("GET", "/labels", Labels)


def add_label(label: str, segments: tuple[Stored, ...]) -> Call[LabelReport]:
    """``POST /labels``."""
    from e2vsearch.analysis.labels.types import LabelReport

    return Call("POST", "/labels", LabelReport, json={"label": label, "segments": [_id(each) for each in segments]})


def remove_label(label: str, segments: tuple[Stored, ...]) -> Call[results.Removed]:
    """``DELETE /labels/{label}``."""
    from e2vsearch.server.results import Removed

    names = [_id(each) for each in segments]
    return Call("DELETE", f"/labels/{quote(label, safe='')}", Removed, params={"segment": names or None})


def suggest_labels(k: int, classifier: str | None, where: str | None) -> Call[results.Suggestions]:
    """``GET /labels/suggestions``."""
    from e2vsearch.server.results import Suggestions

    asked = {"k": k, "classifier": classifier, "where": where}
    return Call("GET", "/labels/suggestions", Suggestions, params=asked)


def _of_one(path: str, returns: type[T], source: AudioQuery, fields: dict[str, str]) -> Call[T]:
    found = stored_or_clip(source)
    if isinstance(found, Clip):
        return Call("POST", f"{path}/upload", returns, form=fields, clips={"file": found})
    if isinstance(found, str):
        return Call("POST", path, returns, json={"reference": found, **fields})
    raise QueryError(f"POST {path} takes audio or an id, not vectors - name a clip, call:NUMBER or seg:NUMBER")


def _id(name: Stored) -> str:
    if isinstance(name, Hit):
        return name.segment
    return name if isinstance(name, str) else name.id


def _recording_id(name: Stored) -> str:
    """Return the id of a recording, checked: it becomes part of an address."""
    return recording_id(number_of(name.recording if isinstance(name, Hit | Segment) else _id(name), "call"))


def _renamed(error: E2vsearchError, names: Mapping[str, str]) -> E2vsearchError:
    """Return the error about a clip as its caller calls it."""
    message = str(error)
    for sent, name in names.items():
        message = message.replace(sent, name)
    return type(error)(message)
