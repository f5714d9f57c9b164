"""The golden vector of the collection's space: kept once, never changed. Knows bytes, nothing of what they are of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update

from e2vsearch.catalog.reading import Reading
from e2vsearch.catalog.store import Catalog
from e2vsearch.catalog.tables import SpaceRow


def kept(catalog: Reading) -> NDArray[np.float32] | None:
    """The golden vector ``(dim,)`` of the space it is pinned to; None if there is none yet."""
    with catalog.reading() as connection:
        found = connection.execute(
            select(SpaceRow.golden).where(SpaceRow.id == catalog.space_number)
        ).scalar_one_or_none()
    return None if found is None else np.frombuffer(found, "<f4").astype(np.float32)


def keep(catalog: Catalog, vector: NDArray[np.float32]) -> None:
    """Keep the golden vector ``(dim,)`` of the space it is pinned to, unless there is one."""
    with catalog.writing() as connection:
        none_yet = (SpaceRow.id == catalog.space_number) & SpaceRow.golden.is_(None)
        connection.execute(update(SpaceRow).where(none_yet).values(golden=vector.astype("<f4").tobytes()))
