"""Common mistakes in scripts: each error names its cure, and the repr of a collection its place and space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import save, speech

import e2vsearch
from e2vsearch.errors import QueryError

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("clip") / "one.wav", speech(2.5))


@pytest.fixture(scope="module")
def collection(clip: Path) -> Iterator[e2vsearch.Collection]:
    with e2vsearch.open(clip.parent / "index", encoder="fake", create=True) as opened:
        assert opened.ingest(clip).stored == 1
        yield opened


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        (None, "NoneType"),
        (3, "int"),
        (["seg:1", "seg:2"], "list"),
        (["seg:1", 3], "list"),
        ((np.zeros(RATE_HZ, np.float32), RATE_HZ), "tuple"),
        ({"ref": "seg:1"}, "dict"),
    ],
)
def test_what_is_no_reference_says_what_is(collection: e2vsearch.Collection, reference: Any, kind: str) -> None:
    with pytest.raises(QueryError, match=rf"not {kind} - give several as query\(\*references\)$"):
        collection.query(reference)


def test_an_empty_name_is_not_the_folder_at_hand(collection: e2vsearch.Collection) -> None:
    with pytest.raises(QueryError, match="the name of a reference is empty"):
        collection.query("")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"k": 2.5}, "k is a whole number, not 2.5"),
        ({"k": "3"}, "k is a whole number, not '3'"),
        ({"k": None}, "k is a whole number, not None"),
        ({"where": {"queue": "billing"}}, "where is a text such as 'queue = billing', not dict"),
        ({"where": ["queue = billing"]}, "where is a text such as 'queue = billing', not list"),
        ({"text": 3}, "text is a text such as 'money back', not int"),
    ],
)
def test_fields_of_a_wrong_type_are_refused(
    collection: e2vsearch.Collection, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(QueryError) as refused:
        collection.query("seg:1", **fields)
    assert str(refused.value) == said


def test_k_is_any_whole_number(collection: e2vsearch.Collection) -> None:
    k: Any = np.int64(1)
    assert len(collection.query("seg:1", k=k, include_self=True)) == 1


def test_a_collection_and_a_result_say_what_they_are(collection: e2vsearch.Collection) -> None:
    assert repr(collection) == f"Collection({collection.location.named!r}, {collection.space})"
    found = collection.query("seg:1", include_self=True)
    assert repr(found) == "QueryResult(1 hit for seg:1)"
