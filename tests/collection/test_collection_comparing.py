"""Comparison: of clips, through the projection in use, and as the collection at hand compares."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made import silence, wav_bytes

import e2vsearch
from e2vsearch.catalog import projections
from e2vsearch.cli import output
from e2vsearch.collection import Collection
from e2vsearch.errors import QueryError
from e2vsearch.projections.linear import LinearProjection
from e2vsearch.types import Space
from e2vsearch.vectors.exact import unit


def test_compare(collection: Collection, calls: Path) -> None:
    same = collection.compare(calls / "voice0.wav", calls / "voice0.wav")
    assert same.score == pytest.approx(1.0)
    assert same.best == pytest.approx(1.0)
    other = collection.compare(calls / "voice0.wav", calls / "voice2.wav")
    assert other.score < 1.0
    assert (other.a.segments, other.b.segments) == (3, 3)
    assert other.a.emotion in ("low", "high")
    assert 0.5 <= other.a.emotion_score <= 1.0  # type: ignore[operator]
    with pytest.raises(QueryError, match="no speech"):
        collection.compare(calls / "voice0.wav", wav_bytes(silence(2.0)))


def turned(dim: int) -> LinearProjection:
    """A projection of random directions."""
    rng = np.random.default_rng(0)
    centre, directions = rng.random(dim, np.float32), rng.standard_normal((dim, 3)).astype(np.float32)
    return LinearProjection("fitted", "turned", centre, directions, np.empty((dim, 0), np.float32), 0.0)


def use(collection: Collection, projection: LinearProjection) -> None:
    stored = ("turned", projection.kind, projection.revision, projection.pack(), {}, datetime.now(UTC))  # type: ignore[var-annotated]
    projections.put(collection.catalog, projections.StoredProjection(*stored))
    projections.use(collection.catalog, "turned")


def test_compare_goes_through_the_projection_in_use(collection: Collection, calls: Path) -> None:
    clips = calls / "voice0.wav", calls / "voice2.wav"
    raw = collection.compare(*clips)
    assert raw.space.projection == "raw"
    projection = turned(16)
    use(collection, projection)
    found = collection.compare(*clips)
    assert found.space.projection == f"turned@{projection.revision[:12]}"
    units = [
        unit(projection.apply(np.stack([moment.vector for moment in collection.embed(clip).segments])))
        for clip in clips
    ]
    assert found.best == pytest.approx((units[0] @ units[1].T).max(), abs=1e-5)
    assert abs(found.score - raw.score) > 1e-3


@pytest.mark.slow
def test_clips_are_compared_as_the_collection_at_hand_compares(run: Run, calls: Path, tmp_path: Path) -> None:
    """Through its projection where it has one and knows the encoder's vectors; raw otherwise, and told so."""
    clips = calls / "voice0.wav", calls / "voice2.wav"
    index = tmp_path / "index"

    def compared(*options: object) -> tuple[dict[str, Any], str]:
        done = run("compare", *clips, *options)
        assert done.code == 0, done.err
        (row,) = done.rows
        assert done.err.strip().endswith(f": {row.pop('reason')}")
        return row, done.err.strip()

    alone, said = compared("--encoder", "fake", "--index", index)
    assert alone["space"]["projection"] == "raw"
    assert said == f"compared raw, as the encoder made the vectors: no collection in {index}"
    with e2vsearch.open(index, encoder="fake", create=True) as collection:
        collection.ingest(calls)
        plain, said = compared("--index", index)
        assert (plain, said) == (alone, f"compared raw, as the encoder made the vectors: {index} uses no projection")
        use(collection, turned(16))
        expected = asdict(collection.compare(*clips))
    found, said = compared("--index", index)
    assert found == output.plain({name: each for name, each in expected.items() if name != "reason"})
    assert found["score"] != alone["score"]
    name = found["space"]["projection"]
    assert name.startswith("turned@")
    assert said == f"compared through {name}: {index} uses the projection turned"
    table = run("compare", *clips, "--index", index, "-f", "table", "-q")
    assert f"{found['score']:.4f}" in table.out
    assert f", {name})" in table.out.splitlines()[1]
    assert table.err == ""
    with e2vsearch.open(tmp_path / "other", create=True) as other:
        other.catalog.pin(Space("fake", "another revision", 16, ("low", "high")), "fake")
    strange, said = compared("--encoder", "fake", "--index", tmp_path / "other")
    assert strange == alone
    assert "other holds vectors of another space: fake@another" in said
    with e2vsearch.open(tmp_path / "empty", create=True):
        pass
    empty, said = compared("--encoder", "fake", "--index", tmp_path / "empty")
    assert (empty, said.endswith("empty holds no recordings yet")) == (alone, True)
