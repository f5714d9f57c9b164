"""Listings: sequences that turn into dictionaries, data frames, Arrow tables and a notebook's table with audio."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from small_collection import make_collection

import e2vsearch
from e2vsearch.errors import MissingExtra
from e2vsearch.listing import Listing
from e2vsearch.search.result import QueryResult
from e2vsearch.types import Failure, Hit, Match, NamedVectors, Recording, Segment

Found = tuple[QueryResult, Listing[Segment]]
LOST = Failure("a.wav", "truncated", "a.wav ends early", 1, datetime(2024, 3, 1, tzinfo=UTC))
HIT = Hit(
    score=0.9, recording="call:1", segment="seg:2", name="a", uri="nowhere.wav", channel=0, start_s=0.5, end_s=2.0,
    segment_score=0.9, emotion="low", emotion_score=0.8, metadata={"product": "mara"},
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """An explained result, and all segments of the collection; their audio stays where it is."""
    with e2vsearch.open(make_collection(tmp_path_factory.mktemp("listing"))) as collection:
        assert collection.failures() == []
        return collection.query("seg:1", k=3, explain=True), collection.segments()


def result_of(*hits: Hit, **changes: Any) -> QueryResult:
    return QueryResult(hits, **{"searched": 2, "total": 2, "exact": True, "seconds": 0.1, "references": ("x",),
                                "where": None, **changes})  # fmt: skip


# --- a sequence


def test_a_listing_is_a_sequence(found: Found) -> None:
    for listing in found:
        rows = list(listing)
        assert isinstance(listing, Sequence)
        assert (len(listing), listing[0], listing[-1]) == (len(rows), rows[0], rows[-1])
        assert list(reversed(listing)) == rows[::-1]
        assert rows[1] in listing
        assert (listing.index(rows[1]), listing.count(rows[1])) == (1, 1)
        with pytest.raises(IndexError):
            listing[len(rows)]


def test_a_slice_is_a_listing(found: Found) -> None:
    for listing in found:
        part = listing[1:3]
        assert type(part) is Listing
        assert part == list(listing)[1:3]
        assert len(part.to_dicts()) == 2
        assert listing[9999:].row_type is listing.row_type


def test_a_listing_equals_any_list_or_tuple_of_its_rows() -> None:
    listing = Listing([LOST])
    for same in ([LOST], (LOST,), Listing((LOST,)), Listing([LOST], Failure)):
        assert listing == same
        assert same == listing
    assert hash(listing) == hash((LOST,))
    for other in ([], [LOST, LOST], [None], {LOST}, "x", None, iter([LOST])):
        assert listing != other
    assert Listing(()) == [] == Listing((), Failure)
    assert not Listing(())


def test_results_are_equal_by_all_but_the_time_that_they_took() -> None:
    result = result_of(HIT)
    assert result == result_of(HIT, seconds=9.0) == [HIT] == result
    assert result != result_of(HIT, where="channel = 0")
    assert result != result_of(replace(HIT, score=0.1))
    assert result != []
    assert hash(result_of()) == hash(())


def test_a_listing_says_how_many_rows_it_has(found: Found) -> None:
    assert [repr(Listing([LOST] * n)) for n in (0, 1, 2000)] == [
        "Listing(0 rows)", "Listing(1 row)", "Listing(2,000 rows)",
    ]  # fmt: skip
    assert repr(found[0]) == "QueryResult(3 hits for seg:1)"


# --- dictionaries, data frames, Arrow


def test_rows_as_dictionaries_have_every_field(found: Found) -> None:
    for listing in found:
        assert listing.to_dicts() == [asdict(row) for row in listing]


def test_a_listing_turns_into_a_data_frame(found: Found) -> None:
    pytest.importorskip("pandas", reason="the 'notebook' extra is not installed")
    for listing in found:
        frame = listing.to_pandas()
        assert list(frame.columns) == [each.name for each in fields(listing[0])]
        assert frame["start_s"].tolist() == [row.start_s for row in listing]
        assert frame["scores"].tolist() == [row.scores for row in listing]
    assert list(Listing((), Failure).to_pandas().columns) == [each.name for each in fields(Failure)]


def test_a_listing_turns_into_an_arrow_table(found: Found) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the 'notebook' extra is not installed")
    for listing in found:
        table = listing.to_arrow()
        rows = table.to_pylist(maps_as_pydicts="strict")
        assert rows == [plain(row) for row in listing.to_dicts()]
        assert pyarrow.table(listing) == table  # by the PyCapsule interface
        assert pyarrow.RecordBatchReader.from_stream(listing).read_all() == table
    why = found[0].to_arrow().schema.field("why").type
    assert pyarrow.types.is_struct(why)
    assert pyarrow.types.is_list(why.field("matches").type)
    assert found[0].to_arrow().schema.field("metadata").type == pyarrow.map_(pyarrow.string(), pyarrow.string())


def plain(value: Any) -> Any:
    """What Arrow gives back: tuples are lists."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("kind", [Failure, Hit, NamedVectors, Recording, Segment])
def test_an_empty_listing_has_the_columns_of_its_rows(kind: type[Any]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the 'notebook' extra is not installed")
    empty = Listing((), kind)
    assert pyarrow.table(empty).column_names == [each.name for each in fields(kind)]
    assert len(empty.to_arrow()) == 0
    assert not any(pyarrow.types.is_null(field.type) for field in empty.to_arrow().schema)


def test_a_table_has_the_same_columns_with_rows_and_without(found: Found) -> None:
    pytest.importorskip("pyarrow", reason="the 'notebook' extra is not installed")
    result, segments = found
    assert segments.to_arrow().schema == Listing((), Segment).to_arrow().schema
    assert result.to_arrow().schema == result_of().to_arrow().schema == Listing((), Hit).to_arrow().schema
    lost = Listing([LOST]).to_arrow()
    assert lost["failed_at"].to_pylist() == [LOST.failed_at]
    assert Listing(()).to_arrow().column_names == []


def test_a_name_that_is_no_text_turns_into_a_table() -> None:
    pytest.importorskip("pyarrow", reason="the 'notebook' extra is not installed")
    broken = Listing([replace(LOST, uri="caf\udce9.wav")])
    assert broken.to_arrow()["uri"].to_pylist() == ["caf?.wav"]
    broken._repr_html_().encode("utf-8")


def test_what_a_missing_package_costs_is_named(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    for convert in (found[0].to_pandas, found[0].to_arrow):
        with pytest.raises(MissingExtra, match=r"'notebook' extra: pip install 'e2vsearch\[notebook\]'"):
            convert()


# --- a notebook's table


def test_a_notebook_shows_hits_with_their_audio(found: Found) -> None:
    result, segments = found
    shown = result._repr_html_()
    assert shown.count("<tr>") == 4
    assert shown.count('<audio controls preload="none" src="data:audio/wav;base64,') == 3
    assert "<audio" not in segments._repr_html_()  # a segment by itself does not say where its file is
    assert (
        "1 Match" in Listing([replace(HIT, alignment=(Match("x", None, None, "seg:2", 0.5, 2.0, 0.9),))])._repr_html_()
    )
    assert Listing(())._repr_html_() == "<pre>Listing(0 rows)</pre>"


def test_only_the_first_rows_are_shown_and_fewer_have_audio(found: Found) -> None:
    shown = Listing([found[0][0]] * 1234)._repr_html_()
    assert (shown.count("<tr>"), shown.count("<audio")) == (51, 20)
    assert shown.endswith("<p>… 1,184 more rows</p>")


@pytest.mark.parametrize("field", ["name", "uri", "text", "emotion", "label", "metadata key", "metadata value"])
def test_a_notebook_runs_nothing_from_outside(field: str) -> None:
    evil = '<script>alert("x")</script>'
    changes: dict[str, Any] = {field: evil}
    if field.startswith("metadata"):
        changes = {"metadata": {evil: "x"} if field.endswith("key") else {"x": evil}}
    shown = Listing([replace(HIT, **changes)])._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in shown


@pytest.mark.parametrize("uri", ["gone.wav", "", "s3://bucket/gone.wav", "file:///gone.wav", "no\0where"])
def test_a_file_that_is_gone_has_no_player(uri: str) -> None:
    shown = Listing([replace(HIT, uri=uri)])._repr_html_()
    assert "<audio" not in shown
    assert "seg:2" in shown


def test_a_segment_beyond_the_end_of_its_file_has_no_player(found: Found) -> None:
    shown = Listing([replace(found[0][0], start_s=9999.0, end_s=10_000.0)])._repr_html_()
    assert "<tr>" in shown
    assert "<audio" not in shown
