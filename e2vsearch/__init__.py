"""e2vsearch: find the calls, and the segments in them, that feel like a reference clip.

>>> import e2vsearch
>>> with e2vsearch.open("index") as collection:  # doctest: +SKIP
...     for hit in collection.query("angry.wav", k=20):
...         print(hit.score, hit.name, hit.start_s, hit.end_s)

Importing it loads nothing heavy; names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from e2vsearch._version import __version__ as __version__

if TYPE_CHECKING:
    from e2vsearch.analysis.timeline import Timeline as Timeline
    from e2vsearch.collection import Collection as Collection
    from e2vsearch.comparison import compare as compare
    from e2vsearch.encoders.base import Encoder as Encoder
    from e2vsearch.encoders.base import EncoderOptions as EncoderOptions
    from e2vsearch.errors import E2vsearchError as E2vsearchError
    from e2vsearch.ingest.reports import IngestReport as IngestReport
    from e2vsearch.ingest.worker import WorkerOptions as WorkerOptions
    from e2vsearch.search.query import AudioQuery as AudioQuery
    from e2vsearch.search.query import Query as Query
    from e2vsearch.search.query import Reference as Reference
    from e2vsearch.search.result import QueryResult as QueryResult
    from e2vsearch.speech import SpeechOptions as SpeechOptions
    from e2vsearch.types import Comparison as Comparison
    from e2vsearch.types import Dynamics as Dynamics
    from e2vsearch.types import EmbeddedAudio as EmbeddedAudio
    from e2vsearch.types import Failure as Failure
    from e2vsearch.types import Hit as Hit
    from e2vsearch.types import Recording as Recording
    from e2vsearch.types import Segment as Segment
    from e2vsearch.types import Space as Space
    from e2vsearch.types import Status as Status
    from e2vsearch.vectors.engine import IndexOptions as IndexOptions

    open = Collection.open

_HOMES = {
    "AudioQuery": "search.query",
    "Collection": "collection",
    "Comparison": "types",
    "Dynamics": "types",
    "EmbeddedAudio": "types",
    "Encoder": "encoders.base",
    "EncoderOptions": "encoders.base",
    "Failure": "types",
    "Hit": "types",
    "IndexOptions": "vectors.engine",
    "IngestReport": "ingest.runner",
    "Query": "search.query",
    "QueryResult": "search.result",
    "Recording": "types",
    "Reference": "search.query",
    "Segment": "types",
    "Space": "types",
    "SpeechOptions": "speech",
    "Status": "types",
    "Timeline": "analysis.timeline",
    "WorkerOptions": "ingest.worker",
    "compare": "comparison",
}


def _errors() -> dict[str, type]:
    errors = import_module("e2vsearch.errors")
    return {
        name: each
        for name, each in vars(errors).items()
        if isinstance(each, type) and each.__module__ == errors.__name__
    }


def __getattr__(name: str) -> Any:
    if name == "open":
        return import_module("e2vsearch.collection").Collection.open
    if name in _HOMES:
        return getattr(import_module(f"e2vsearch.{_HOMES[name]}"), name)
    if name == "__all__":
        return sorted({*_HOMES, *_errors(), "open"})
    if name[:1].isupper() and (error := _errors().get(name)) is not None:
        return error
    raise AttributeError(f"module 'e2vsearch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # type: ignore[name-defined] # noqa: F821 - by __getattr__
