"""Who speaks when in each recording, and its course."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from e2vsearch.course import course_of, is_told, judged

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FLOAT = sa.Float(precision=53)
_AT_ONCE = 200  # recordings: of an hour each, 100,000 segments

# as they are from this revision on, whatever the models say later
_RECORDING = sa.table(
    "recording", sa.column("id"), sa.column("channels"), sa.column("roles", sa.JSON()), sa.column("course")
)
_SEGMENT = sa.table(
    "segment",
    *(sa.column(name) for name in ("id", "recording_id", "channel", "start_s", "end_s", "valence", "level_db")),
)


def upgrade() -> None:
    op.create_table(
        "dynamics",
        sa.Column("recording_id", _ID, nullable=False),
        sa.Column("talk_share", _FLOAT, nullable=False),
        sa.Column("silence_share", _FLOAT, nullable=False),
        sa.Column("longest_silence_s", _FLOAT, nullable=False),
        sa.Column("overtalk", _FLOAT),
        sa.Column("interruptions", sa.Integer()),
        sa.Column("turns", sa.Integer()),
        sa.Column("overlaps", sa.JSON(), nullable=False),
        sa.Column("silences", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recording.id"], name="fk_dynamics_recording_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("recording_id", name="pk_dynamics"),
    )
    op.create_table(
        "channel_dynamics",
        sa.Column("recording_id", _ID, nullable=False),
        sa.Column("channel", sa.Integer(), nullable=False),
        sa.Column("talk_share", _FLOAT, nullable=False),
        sa.Column("turns", sa.Integer()),
        sa.Column("interruptions", sa.Integer()),
        sa.Column("longest_turn_s", _FLOAT),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["dynamics.recording_id"], name="fk_channel_dynamics_recording_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("recording_id", "channel", name="pk_channel_dynamics"),
    )
    op.add_column("recording", sa.Column("course", sa.String(length=16)))
    _fill_courses()


def downgrade() -> None:
    op.drop_column("recording", "course")
    op.drop_table("channel_dynamics")
    op.drop_table("dynamics")


def _fill_courses() -> None:
    """Give every recording its course; who spoke when is not known of those that are stored."""
    connection = op.get_bind()
    query = sa.select(_RECORDING.c.id, _RECORDING.c.channels, _RECORDING.c.roles).order_by(_RECORDING.c.id)
    row = _SEGMENT.c
    of_segments = sa.select(row.recording_id, row.channel, row.start_s, row.end_s, row.valence, row.level_db)
    of_segments = of_segments.where(row.valence.is_not(None)).order_by(row.recording_id, row.start_s, row.id)
    update = sa.update(_RECORDING).where(_RECORDING.c.id == sa.bindparam("number")).values(course=sa.bindparam("its"))
    last = 0
    while found := connection.execute(query.where(_RECORDING.c.id > last).limit(_AT_ONCE)).all():
        lines: dict[int, dict[int, list[float]]] = {each.id: {} for each in found}
        for each in connection.execute(of_segments.where(row.recording_id > last, row.recording_id <= found[-1].id)):
            if is_told(each.end_s - each.start_s, each.level_db):
                lines[each.recording_id].setdefault(each.channel, []).append(each.valence)
        courses = [{"number": each.id, "its": _course(each, lines[each.id])} for each in found]
        known = [each for each in courses if each["its"] is not None]
        if known:
            connection.execute(update, known)
        last = found[-1].id


def _course(recording: Any, lines: dict[int, list[float]]) -> str | None:
    return course_of(lines.get(channel, []) for channel in judged(recording.roles or [None] * recording.channels))
