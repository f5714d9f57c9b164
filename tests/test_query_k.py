"""However many hits are asked for, a query costs what as many as there are cost."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from small_collection import make_collection

import e2vsearch
from e2vsearch import Collection

ALL = 12  # segments of the collection
LEAST_BYTES = 1_000_000  # of which a table of a billion columns would be the thousandth part


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with e2vsearch.open(make_collection(tmp_path_factory.mktemp("k"))) as opened:
        yield opened


@pytest.mark.parametrize(
    "fields",
    [
        {"references": ["seg:1"]},
        {"references": ["seg:1"], "by": "segment"},
        {"references": ["seg:1"], "exact": True, "include_self": True},
        {"references": ["seg:1", "seg:5"]},
        {"references": ["seg:1", "seg:5"], "by": "segment"},
        {"references": ["seg:1"], "where": "queue = billing"},
        {"references": ["seg:1"], "avoid": ("seg:5",), "by": "segment"},
        {"references": ["seg:1"], "group_by": ("recording",), "by": "segment", "group_size": 10**9},
        {"references": ["seg:1"], "explain": True},
        {"trajectory": "call:1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("k", [10**9, 2**70])
def test_more_hits_than_there_are_segments(collection: Collection, fields: dict[str, Any], k: int) -> None:
    fields = dict(fields)
    references = fields.pop("references", [])
    expected = collection.query(*references, k=ALL, **fields)
    tracemalloc.start()
    try:
        found = collection.query(*references, k=k, **fields)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == expected
    assert len(found) > 0
    assert peak < LEAST_BYTES


def test_more_suggestions_than_there_are_segments(collection: Collection) -> None:
    pytest.importorskip("sklearn")
    tracemalloc.start()
    try:
        assert len(collection.labels.suggest(10**9)) <= ALL
        assert tracemalloc.get_traced_memory()[1] < 50 * LEAST_BYTES
    finally:
        tracemalloc.stop()
