"""The parts of an open collection that a query uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from e2vsearch.catalog.writer import Catalog
from e2vsearch.projections.view import SearchView
from e2vsearch.types import Consistency, EmbeddedAudio

if TYPE_CHECKING:
    from e2vsearch.audio import AudioSource


@dataclass(frozen=True, slots=True)
class SearchContext:
    """One query's view of a collection: the same projection and index from its first step to its last.

    Attributes:
        catalog: holds recordings, segments and their vectors.
        view: the projection in use, the projected vectors, and the index over them.
        embed: embeds the audio of a reference.
        actor: who asks, for the audit log.
    """

    catalog: Catalog
    view: SearchView
    embed: Callable[[AudioSource], EmbeddedAudio]
    actor: str = "python"

    def under(self, consistency: Consistency) -> SearchContext:
        """Return the same context, with an index whose searches take account of no more than that."""
        return replace(self, view=replace(self.view, index=self.view.index.under(consistency)))
