"""e2vsearch: find the calls, and the moments in them, that feel like a reference clip.

>>> import e2vsearch
>>> with e2vsearch.open("index") as collection:  # doctest: +SKIP
...     collection.ingest("calls/")
...     for hit in collection.query("angry.wav", k=20):
...         print(hit.score, hit.name, hit.start_s, hit.end_s)

Importing it loads nothing heavy; names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from e2vsearch.analysis import Collection as Collection
    from e2vsearch.errors import E2vsearchError as E2vsearchError
    from e2vsearch.ingest.runner import IngestReport as IngestReport
    from e2vsearch.speech import SpeechOptions as SpeechOptions
    from e2vsearch.types import Comparison as Comparison
    from e2vsearch.types import Hit as Hit
    from e2vsearch.types import QueryResult as QueryResult
    from e2vsearch.types import Space as Space
    from e2vsearch.vectors.engine import IndexOptions as IndexOptions

    open = Collection.open

_HOMES = {
    "Collection": "e2vsearch.analysis",
    "Comparison": "e2vsearch.types",
    "E2vsearchError": "e2vsearch.errors",
    "Hit": "e2vsearch.types",
    "IndexOptions": "e2vsearch.vectors.engine",
    "IngestReport": "e2vsearch.ingest.runner",
    "QueryResult": "e2vsearch.types",
    "Space": "e2vsearch.types",
    "SpeechOptions": "e2vsearch.speech",
}

__all__ = [*_HOMES, "open"]


def __getattr__(name: str) -> Any:
    if name == "open":
        return import_module("e2vsearch.analysis").Collection.open
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'e2vsearch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
