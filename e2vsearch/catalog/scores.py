"""Class scores of stored segments, given anew, with the names they lead to. Knows rows, not where scores come from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, select, update

from e2vsearch.catalog.projections import StoredProjection, is_still
from e2vsearch.catalog.rows import parts, scored
from e2vsearch.catalog.store import Catalog
from e2vsearch.catalog.tables import ProjectionRow, SegmentRow

_GIVEN = update(SegmentRow).where(SegmentRow.id == bindparam("number"))
_SPOKEN = select(SegmentRow.id, SegmentRow.start_s, SegmentRow.end_s, SegmentRow.level_db)


def put(catalog: Catalog, ids: NDArray[np.int64], scores: NDArray[np.float32], by: StoredProjection) -> bool:
    """Replace the scores of segments, their names, arousal and valence with them, in one transaction.

    Args:
        catalog: pinned to a space.
        ids: ``(n,)``; those that are gone since are passed over.
        scores: ``(n, labels of the space)``.
        by: whose scores they are.

    Returns:
        Whether they were stored; they are not where that projection has been replaced since.
    """
    assert catalog.space is not None
    of = dict(zip(ids.tolist(), scores, strict=True))
    same = select(ProjectionRow.id).where(is_still(by)).with_for_update(read=True)
    with catalog.writing() as connection:
        held = connection.execute(same).scalar_one_or_none()
        for part in parts(list(of)) if held is not None else ():
            there = connection.execute(_SPOKEN.where(SegmentRow.id.in_(part))).all()
            durations_s, levels_db = [row.end_s - row.start_s for row in there], [row.level_db for row in there]
            columns = scored([of[row.id] for row in there], catalog.space, durations_s, levels_db)
            rows = [{"number": row.id, **each} for row, each in zip(there, columns, strict=True)]
            if rows:
                connection.execute(_GIVEN, rows)
    return held is not None
