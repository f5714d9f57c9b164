"""What clips that belong to no collection are compared through: the projection of the one at hand, if it fits them."""

from __future__ import annotations

from dataclasses import dataclass

from e2vsearch.collection.lenses import named
from e2vsearch.collection.opened import Collection
from e2vsearch.encoders import Encoder
from e2vsearch.errors import CatalogError, SettingsError
from e2vsearch.projections import RAW, Projection, adapt, shipped
from e2vsearch.settings import Settings
from e2vsearch.space import Space


@dataclass(frozen=True, slots=True)
class AtHand:
    """A projection, and where it comes from."""

    projection: Projection
    space: Space  # the encoder's, with the projection's name
    why: str  # for people: whose projection it is, or why it is none


def at_hand(options: Settings, encoder: Encoder) -> AtHand:
    """What vectors of a space are compared through.

    Args:
        options: they name a collection, whether it is there or not.
        encoder: what they were made with. What ships with it, or its head, is taken where the collection is of no help.

    Raises:
        AnalysisError: the projection in use is damaged.
    """
    space = encoder.space
    try:
        collection = Collection.open(options.index, create=False)
    except (CatalogError, SettingsError) as error:  # two clips can be compared without one
        return _alone(encoder, str(error).partition(" - ")[0])
    with collection:
        if collection.space is None:
            return _alone(encoder, f"{collection.place.named} holds no recordings yet")
        if collection.space != space:
            return _alone(encoder, f"{collection.place.named} holds vectors of another space: {collection.space}")
        lens = collection.lens()
        uses = "" if lens.projection.kind == RAW.kind else f" the projection {lens.projection.name}"
        return AtHand(lens.projection, lens.named(space), f"{collection.place.named} uses{uses or ' no projection'}")


def _alone(encoder: Encoder, why: str) -> AtHand:
    found = adapt.alone(encoder.projection(), encoder.head(), encoder.space.dim)
    if found is RAW:
        return AtHand(RAW, encoder.space, why)
    source = "it ships with" if found.kind == shipped.KIND else "it is the head of"
    return AtHand(found, named(encoder.space, found), f"{source} {encoder.space.encoder}; {why}")
