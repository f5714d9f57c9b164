"""The parts of an open collection that ingestion uses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoder_check import pin_encoder
from e2vsearch.encoders.base import Encoder
from e2vsearch.encoders.registry import SAVED
from e2vsearch.settings import Settings
from e2vsearch.speech import SpeechOptions


@dataclass(frozen=True)
class IngestContext:
    """An open collection, as far as ingestion is concerned; the facet `Queue` is one.

    Attributes:
        catalog: recordings are added to it.
        settings: of which the encoder's name and the number of workers are used.
        speech: how speech is found and cut.
        encoder: opens the encoder, and checks it against the collection, once.
        maintain: rebuilds the index, if that is due.
        due: returns why a rebuild is due, or None.
        owns_index: whether the index lies with the collection, so that a worker may rebuild it; of a database by URL,
            each machine that searches it has an index of its own.
        retention: returns a context in which recordings are forgotten once they are older than the policy allows.
        reopen: opens a collection in another process, as `Collection.open` does.
    """

    catalog: Catalog
    settings: Settings
    speech: SpeechOptions
    encoder: Callable[[], Encoder]
    maintain: Callable[[], object]
    due: Callable[[], str | None]
    owns_index: bool
    retention: Callable[[], AbstractContextManager[None]]
    reopen: Callable[..., AbstractContextManager[Any]]

    @property
    def of_vectors(self) -> bool:
        """Whether the collection holds saved vectors, which no encoder here makes."""
        return (self.settings.named_encoder or self.catalog.encoder_source) == SAVED

    def pinned_encoder(self) -> Encoder:
        """Return the encoder that the collection is pinned to from now on.

        Raises:
            EncoderError, MissingExtra, SpaceMismatch: nothing can be encoded.
        """
        encoder = self.encoder()
        pin_encoder(self.catalog, encoder)
        return encoder
