"""The parts of an open collection that analysis uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from e2vsearch.audio import AudioSource, Signal
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders.base import Encoder
from e2vsearch.projections.view import SearchView
from e2vsearch.types import EmbeddedAudio


@dataclass(frozen=True)
class AnalysisContext:
    """An open collection, as far as analyses are concerned; the facets `Labels`, `Maps` and `Projections` are one each.

    Attributes:
        catalog: holds recordings, segments, labels, maps and projections.
        view: returns the projection in use, with the projected vectors and the index.
        view_of: returns that of another projection, by name.
        drop_index: deletes all of a projection's index, by the projection's revision.
        embed: embeds audio as the collection does.
        encoder: opens the encoder, once.
        clip: decodes a stored segment.
    """

    catalog: Catalog
    view: Callable[[], SearchView]
    view_of: Callable[[str], SearchView]
    drop_index: Callable[[str], None]
    embed: Callable[[AudioSource], EmbeddedAudio]
    encoder: Callable[[], Encoder]
    clip: Callable[[str], Signal]
