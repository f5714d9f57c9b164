"""Listings: rows as dictionaries, data frames, Arrow tables and a notebook's table with audio."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small_collection import make_collection

import e2vsearch
from e2vsearch.errors import MissingExtra
from e2vsearch.listing import Listing
from e2vsearch.search.result import QueryResult


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[QueryResult, Listing[e2vsearch.Segment]]:
    """A query's result, and all segments of the collection; their audio stays where it is."""
    with e2vsearch.open(make_collection(tmp_path_factory.mktemp("listing"))) as collection:
        return collection.query("seg:1", k=3), collection.segments()


def test_a_listing_is_a_sequence(found: tuple[QueryResult, Listing[e2vsearch.Segment]]) -> None:
    result, segments = found
    assert (len(result), len(segments)) == (3, 12)
    assert [hit.score for hit in result] == sorted((hit.score for hit in result), reverse=True)
    assert segments[0].id == "seg:1"
    assert segments[:2] == tuple(segments)[:2]
    assert Listing(segments) == segments != Listing(segments[1:])


def test_rows_as_dictionaries_have_every_field(found: tuple[QueryResult, Listing[e2vsearch.Segment]]) -> None:
    result, _ = found
    rows = result.to_dicts()
    assert [row["segment"] for row in rows] == [hit.segment for hit in result]
    assert set(rows[0]) == set(e2vsearch.Hit.__dataclass_fields__)


def test_a_listing_turns_into_a_data_frame(found: tuple[QueryResult, Listing[e2vsearch.Segment]]) -> None:
    pytest.importorskip("pandas", reason="the 'notebook' extra is not installed")
    result, segments = found
    frame = segments.to_pandas()
    assert list(frame["id"]) == [segment.id for segment in segments]
    assert list(result.to_pandas()["score"]) == [hit.score for hit in result]


def test_a_listing_turns_into_an_arrow_table(found: tuple[QueryResult, Listing[e2vsearch.Segment]]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the 'notebook' extra is not installed")
    result, _ = found
    table = result.to_arrow()
    assert table["recording"].to_pylist() == [hit.recording for hit in result]
    assert table["scores"].to_pylist()[0][0].keys() == {"key", "value"}
    assert pyarrow.table(result) == table  # by the PyCapsule interface


def test_what_a_missing_package_costs_is_named(
    found: tuple[QueryResult, Listing[e2vsearch.Segment]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    for convert in (found[0].to_pandas, found[0].to_arrow):
        with pytest.raises(MissingExtra, match=r"'notebook' extra: pip install 'e2vsearch\[notebook\]'"):
            convert()


def test_a_notebook_shows_hits_with_their_audio(found: tuple[QueryResult, Listing[e2vsearch.Segment]]) -> None:
    result, segments = found
    shown = result._repr_html_()
    assert shown.count("<tr>") == 4
    assert shown.count('<audio controls preload="none" src="data:audio/wav;base64,') == 3
    assert "<audio" not in segments._repr_html_()  # a segment by itself does not say where its file is
    assert Listing(())._repr_html_() == "<pre>Listing(0 rows)</pre>"


def test_a_file_that_is_gone_has_no_player(tmp_path: Path) -> None:
    with e2vsearch.open(make_collection(tmp_path)) as collection:
        result = collection.query("seg:1", k=3)
    for path in (tmp_path / "calls").iterdir():
        path.unlink()
    assert "<audio" not in result._repr_html_()
