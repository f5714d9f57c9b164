"""The index kind that Milvus is given: by the server's version, and by what it refuses."""

from __future__ import annotations

import logging

import pytest
from engine_sides import Side
from memory_source import MemorySource, clustered

from e2vsearch.errors import EngineError
from e2vsearch.vectors.engines.milvus import MilvusEngine

DIM, N = 16, 200


@pytest.fixture(scope="module")
def milvus(side: Side) -> Side:
    if side.name not in ("milvus", "milvus-lite"):
        pytest.skip("not Milvus")
    return side


def test_a_kind_suits_the_size_and_what_the_server_has(milvus: Side) -> None:
    """2.3.5 has no RaBitQ; milvus-lite neither, nor lists that say how many they are."""
    engine = milvus.open(MemorySource(clustered(N, DIM))).engine
    large = "ivf-sq8" if milvus.name == "milvus" else "hnsw"
    assert [engine.choose(n) for n in (N, 50_000, 2_000_000)] == ["flat", "hnsw", large]
    assert {engine.choose(n) for n in (N, 50_000, 2_000_000)} <= set(engine.kinds)
    with pytest.raises(EngineError, match=r"needs Milvus 2\.6"):
        engine.index("ivf-rabitq", N)
    assert engine.filled().kind == "flat", "what was there still is"


def test_with_rabitq_the_server_is_asked_for_it_and_where_it_refuses_another_is_built(
    milvus: Side, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that says it is 2.6 and is not: the error is a real server's."""
    if milvus.name != "milvus":
        pytest.skip("a server says which version it is")
    opened = milvus.open(MemorySource(clustered(N, DIM)))
    engine = opened.engine
    assert isinstance(engine, MilvusEngine)
    engine._has_rabitq = True
    assert engine.choose(50_000) == "ivf-rabitq"
    with caplog.at_level(logging.WARNING, logger="e2vsearch"):
        engine.index("ivf-rabitq", 50_000)
    assert "Milvus builds no ivf-rabitq, so hnsw is built: " in caplog.text
    assert "invalid index type: IVF_RABITQ" in caplog.text
    assert (engine.filled().kind, engine.choose(50_000)) == ("hnsw", "hnsw")
    assert opened.check(clustered(3, DIM, seed=2), 10) >= 0.95
