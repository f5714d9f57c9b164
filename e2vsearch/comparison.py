"""Compares two clips without a collection, or through the projection of one that fits."""

from __future__ import annotations

import os

from e2vsearch import pipeline, settings
from e2vsearch.collection import Collection
from e2vsearch.errors import CatalogError, SettingsError
from e2vsearch.files import local_path
from e2vsearch.projections.recalibrate import recalibrate
from e2vsearch.search.compare import compare_audio, comparison_view, encoder_view
from e2vsearch.search.query import identifier_of
from e2vsearch.types import Comparison


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    index: str | os.PathLike[str] | None = None,
    encoder: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    actor: str = "python",
) -> Comparison:
    """Return how alike two clips feel, through the projection of the collection if there is one that fits.

    Args:
        a: a file, or the id of what the collection stores: ``call:45``, ``seg:123``.
        b: another.
        index: the collection, as for `Collection.open`; it does not have to exist.
        encoder: a name or model folder; by default the collection's.
        device: where the encoder runs.
        precision: of emotion2vec.
        actor: who asks, for the collection's audit log.

    Raises:
        AudioError, EncoderError: one of them cannot be read or encoded.
        QueryError: one of them has no speech.
        NotStored, NoCollection: both are ids, and one of them is not there, or there is no collection.
    """
    given = os.fspath(index) if index is not None else None
    options = settings.load(index=given, encoder=encoder, device=device, precision=precision)
    if all(identifier_of(os.fspath(each)) for each in (a, b)):  # needs no encoder, which saved vectors have none of
        with Collection.open(options.index) as collection:
            return collection.used_by(actor).compare(a, b)
    opened = pipeline.encoder_for(options)
    try:
        collection = Collection.open(options.index, encoder=opened)
    except (CatalogError, SettingsError) as error:  # two clips can be compared without one
        view = encoder_view(opened, str(error).partition(" - ")[0])
    else:
        with collection:
            if collection.space == opened.space:
                return collection.used_by(actor).compare(a, b)
            view = comparison_view(opened, None, collection.space, collection.location.named)
    embedded = [recalibrate(view.projection, pipeline.embed_audio(local_path(clip), opened)) for clip in (a, b)]
    return compare_audio(view, (os.fspath(a), embedded[0]), (os.fspath(b), embedded[1]))
