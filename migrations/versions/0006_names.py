"""Names that are believed, arousal and valence of each segment, and the level of its signal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from alembic import op
from numpy.typing import NDArray

from e2vsearch.emotions import named

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = ("arousal", "valence", "level_db")
_AT_ONCE = 5000  # segments: 180 kB of nine classes

# as they are from this revision on, whatever the models say later
_SPACE = sa.table("space", sa.column("id"), sa.column("labels", sa.JSON()))
_RECORDING = sa.table("recording", sa.column("id"), sa.column("space_id"))
_SEGMENT = sa.table(
    "segment",
    *(sa.column(name) for name in ("id", "recording_id", "start_s", "end_s", "label", "label_score", "scores")),
    *(sa.column(name) for name in _COLUMNS),
)

_Made = Callable[[NDArray[np.float32], Sequence[str], Sequence[float]], list[dict[str, Any]]]


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column("segment", sa.Column(name, sa.Float(precision=53)))
    _rewrite(_named)


def downgrade() -> None:
    _rewrite(_likeliest)
    for name in _COLUMNS:
        op.drop_column("segment", name)


def _rewrite(made: _Made) -> None:
    """Give every segment that has scores what is made of them; one without them keeps its label."""
    connection = op.get_bind()
    spaces = {row.id: row.labels for row in connection.execute(sa.select(_SPACE))}
    query = (
        sa.select(_SEGMENT.c.id, _SEGMENT.c.start_s, _SEGMENT.c.end_s, _SEGMENT.c.scores, _RECORDING.c.space_id)
        .join(_RECORDING, _RECORDING.c.id == _SEGMENT.c.recording_id)
        .order_by(_SEGMENT.c.id)
        .limit(_AT_ONCE)
    )
    last = 0
    while rows := connection.execute(query.where(_SEGMENT.c.id > last)).all():
        last = rows[-1].id
        for space, labels in spaces.items():
            of_space = [row for row in rows if row.space_id == space and row.scores is not None]
            if not of_space:
                continue
            scores = np.frombuffer(b"".join(row.scores for row in of_space), "<f4").reshape(-1, len(labels))
            columns = made(scores, labels, [row.end_s - row.start_s for row in of_space])
            values = [{"number": row.id, **each} for row, each in zip(of_space, columns, strict=True)]
            update = sa.update(_SEGMENT).where(_SEGMENT.c.id == sa.bindparam("number"))
            connection.execute(update.values({name: sa.bindparam(name) for name in columns[0]}), values)


def _named(scores: NDArray[np.float32], labels: Sequence[str], durations_s: Sequence[float]) -> list[dict[str, Any]]:
    found = named(scores, labels, durations_s, [None] * len(scores))
    return [
        {"label": each.name, "label_score": each.score, "arousal": each.arousal, "valence": each.valence}
        for each in found
    ]


def _likeliest(scores: NDArray[np.float32], labels: Sequence[str], _: Sequence[float]) -> list[dict[str, Any]]:
    best = scores.argmax(axis=1)
    return [
        {"label": labels[at], "label_score": score}
        for at, score in zip(best.tolist(), scores.max(axis=1).tolist(), strict=True)
    ]
