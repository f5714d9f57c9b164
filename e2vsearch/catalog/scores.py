"""Class scores of stored segments, given anew. Knows rows, nothing of where scores come from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, select, update

from e2vsearch.catalog.projections import StoredProjection, is_still
from e2vsearch.catalog.rows import scored
from e2vsearch.catalog.store import Catalog
from e2vsearch.catalog.tables import ProjectionRow, SegmentRow

_GIVEN = update(SegmentRow).where(SegmentRow.id == bindparam("number"))


def put(catalog: Catalog, ids: NDArray[np.int64], scores: NDArray[np.float32], by: StoredProjection) -> bool:
    """Replace the scores of segments, their likeliest emotion with them, in one transaction.

    Args:
        catalog: pinned to a space.
        ids: ``(n,)``; those that are gone since are passed over.
        scores: ``(n, labels of the space)``.
        by: whose scores they are.

    Returns:
        Whether they were stored; they are not where that projection has been replaced since.
    """
    assert catalog.space is not None
    rows = [{"number": n} | scored(each, catalog.space) for n, each in zip(ids.tolist(), scores, strict=True)]
    same = select(ProjectionRow.id).where(is_still(by)).with_for_update(read=True)
    with catalog.writing() as connection:
        held = connection.execute(same).scalar_one_or_none()
        if held is not None and rows:
            connection.execute(_GIVEN, rows)
    return held is not None
