"""A collection behind a framework: opened once and late, references as they come, paths confined where they must be."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import save, speech, wav_bytes
from small_collection import SAID, make_collection

import e2vsearch
from e2vsearch.catalog import labels
from e2vsearch.collection import Collection
from e2vsearch.errors import (
    AudioError,
    AudioNotFound,
    E2vsearchError,
    NoCollection,
    NotStored,
    PathForbidden,
    QueryError,
    SettingsError,
)
from e2vsearch.integrations import retriever
from e2vsearch.integrations.retriever import Retriever, references, template
from e2vsearch.search.query import Query, Reference
from e2vsearch.search.result import QueryResult


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("retriever"))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """One with a label of one's own, and named vectors."""
    place = make_collection(tmp_path_factory.mktemp("tired"))
    with e2vsearch.open(place, encoder="fake") as collection:
        labels.add_examples(collection.catalog, "tired", [labels.NewExample("seg:9", segment=9)])
        ids = [segment.id for segment in collection.segments()]
        vectors = np.array([[each == "seg:11", each != "seg:11"] for each in ids], np.float32)
        collection.named_vectors.attach("topic", ids, vectors)
        yield collection


def timeless(result: QueryResult) -> QueryResult:
    """All of a result that two runs have in common."""
    return replace(result, seconds=0.0)


def test_a_source_opens_late_and_once(place: Path) -> None:
    Retriever(index=place / "nothing here")  # not opened yet
    source = Retriever(index=place, encoder="fake")
    with ThreadPoolExecutor(4) as pool:
        opened = set(pool.map(lambda _: id(source.collection), range(8)))
    assert len(opened) == 1
    source.collection.close()


def test_a_misspelt_index_makes_nothing(place: Path) -> None:
    with pytest.raises(NoCollection):
        Retriever(index=place.parent / "indx").query("seg:1", template({}))
    assert not (place.parent / "indx").exists()


def test_a_collection_and_an_index_are_one_too_many(place: Path, collection: Collection) -> None:
    with pytest.raises(SettingsError, match="not both"):
        Retriever(collection, place)


MIXED: Any = {"low": 1, "tired": -0.5}
TOPIC: Any = {"topic": [100.0, "seg:11"]}


@pytest.mark.parametrize(
    ("given", "fields", "expected"),
    [
        ("seg:1", {"k": 2}, Query(("seg:1",), k=2)),  # type: ignore[arg-type]
        ("seg:1", {"by": "segment"}, Query(("seg:1",), by="segment")),  # type: ignore[arg-type]
        ("seg:1", {"where": "product in (bela, cora)"}, Query(("seg:1",), where="product in (bela, cora)")),  # type: ignore[arg-type]
        ("seg:1", {"text": "refund"}, Query(("seg:1",), text="refund")),  # type: ignore[arg-type]
        ("seg:1", {"exact": True, "include_self": True}, Query(("seg:1",), exact=True, include_self=True)),  # type: ignore[arg-type]
        ("seg:1", {"named_vectors": TOPIC}, Query(("seg:1",), named_vectors={"topic": (100.0, "seg:11")})),  # type: ignore[arg-type]
        (
            [Reference("seg:1", 2.0), {"source": "seg:5", "weight": 1}],
            {"explain": True},
            Query((Reference("seg:1", 2.0), Reference("seg:5", 1.0)), explain=True),
        ),
        (["seg:1", "seg:5"], {}, Query(("seg:1", "seg:5"))),  # type: ignore[arg-type]
        (Reference("seg:1", 2.0), {}, Query((Reference("seg:1", 2.0),))),
        ("seg:1", {"avoid": ["seg:5", "seg:9"]}, Query(("seg:1",), avoid=("seg:5", "seg:9"))),  # type: ignore[arg-type]
        ("seg:1", {"avoid": [{"source": "seg:5", "weight": 0.2}]}, Query(("seg:1",), avoid=(Reference("seg:5", 0.2),))),  # type: ignore[arg-type]
        ("", {"emotion": MIXED}, Query(emotion=MIXED)),
        ([""], {"emotion": "low", "min_probability": 0.6}, Query(emotion="low", min_probability=0.6)),
        (None, {"emotion": "tired"}, Query(emotion="tired")),
        ("seg:1", {"emotion": MIXED, "explain": True}, Query(("seg:1",), emotion=MIXED, explain=True)),  # type: ignore[arg-type]
        (
            "seg:1",
            {"group_by": ["recording", "queue"], "group_size": [2, 3], "by": "segment"},
            Query(("seg:1",), group_by=("recording", "queue"), group_size=(2, 3), by="segment"),  # type: ignore[arg-type]
        ),
        ("call:2", {"trajectory": True}, Query(trajectory="call:2")),
        (["call:2"], {"trajectory": True, "explain": True}, Query(trajectory="call:2", explain=True)),
        ("emotion:low, tired", {"trajectory": True}, Query(trajectory="emotion:low, tired")),
        ("low,seg:5", {"trajectory": True}, Query(trajectory="low,seg:5")),
        (["emotion:low", "label:tired"], {"trajectory": True}, Query(trajectory=["emotion:low", "label:tired"])),
    ],
    ids=str,
)
@pytest.mark.parametrize("roots", [None, ()])
def test_all_that_a_query_can_say(
    collection: Collection, given: Any, fields: dict[str, Any], expected: Query, roots: Any
) -> None:
    """Confined or not, every field of the result is that of `Collection.query`."""
    found = Retriever(collection, roots=roots).query(given, template(fields))
    assert timeless(found) == timeless(collection.query(expected))
    assert found.hits == collection.query(expected).hits
    assert len(found) > 1 or fields.get("text") == "refund"
    assert fields.get("text") is None or {hit.text for hit in found} == {SAID}


def test_a_template_waits_for_its_references() -> None:
    assert template({}).k == Query(("seg:1",)).k  # type: ignore[arg-type]
    made = template({"avoid": ["seg:5"], "explain": True}, k=3, where=None)
    assert (made.avoid, made.explain, made.k, made.where) == ((Reference("seg:5"),), True, 3, None)
    changed = template({"explain": True, "text": "refund"}, {"k": 5, "where": None, "text": "no"}, k=3, where="seg:1")
    assert changed == template({"explain": True}, k=5, where="seg:1", text="no")
    assert template({"trajectory": True}, {"trajectory": False}) == template({})
    assert doctest.testmod(retriever) == doctest.TestResults(failed=0, attempted=1)


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"kk": 1}, TypeError, "no field kk"),
        ({"references": ["seg:1"]}, TypeError, "the query itself"),
        ({"trajectory": "call:2"}, TypeError, "set trajectory to true"),
        ({"by": "segment"}, TypeError, "by is a parameter by itself"),
        ({"k": 0}, QueryError, "1 or more"),
        ({"avoid": [{"source": "seg:1", "weight": -1}]}, QueryError, "above 0"),
        ({"avoid": [{"sauce": "seg:1"}]}, TypeError, "sauce"),
        ({"min_probability": 0.5}, QueryError, "name one"),
        ({"trajectory": True, "emotion": "low"}, QueryError, "without emotion"),
        ({"group_by": ["day"], "group_size": 0}, QueryError, "leaves nothing"),
    ],
    ids=str,
)
def test_fields_that_make_no_query_are_refused_early(fields: dict[str, Any], error: type[Exception], says: str) -> None:
    own: dict[str, Any] = {"by": "recording"}
    with pytest.raises(error, match=says):
        template(fields, **own)


def test_hits_below_a_score_are_left_out(collection: Collection) -> None:
    source, query = Retriever(collection), template({})
    everything = source.query("seg:1", query)
    least = everything[1].score
    expected = replace(everything, hits=everything.hits[:2])
    assert timeless(source.query("seg:1", query, min_score=least)) == timeless(expected)
    assert len(source.query("seg:1", query, min_score=2.0)) == 0


def test_hits_segments_and_recordings_are_references(collection: Collection) -> None:
    source, query = Retriever(collection, roots=()), template({"k": 3})
    [hit] = collection.query("seg:1", k=1)
    for given in (hit, collection.segments("seg:4")[0], collection.recordings("call:2")[0], [hit, "seg:1"]):
        expected = collection.query(*(given if isinstance(given, list) else [given]), k=3)
        assert source.query(given, query).hits == expected.hits


def test_results_name_files_as_the_client_does(collection: Collection, place: Path) -> None:
    calls = place.parent / "calls"
    anna = str(calls / "anna.wav")
    for roots, named in ((None, anna), ([calls], "anna.wav")):
        source = Retriever(collection, roots=roots)
        found = source.query([named], template({"avoid": [named], "explain": True, "k": 1}))
        expected = collection.query(anna, avoid=[anna], explain=True, k=1).with_reference_names({anna: named})
        assert timeless(found) == timeless(expected)
        assert (found.references, found.avoid) == ((named,), (named,))
        trajectory = source.query(named, template({"trajectory": True, "k": 1}))
        assert {match.reference for match in trajectory[0].alignment} == {named}
        compared = source.compare(named, "call:2")
        expected_pair = collection.compare(anna, "call:2")
        assert compared == replace(expected_pair, a=replace(expected_pair.a, name=named))


def test_errors_name_files_as_the_client_does(collection: Collection, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no audio at all")
    source = Retriever(collection, roots=[tmp_path])
    for failing in (
        lambda: source.query("broken.wav", template({})),
        lambda: source.compare("broken.wav", "call:1"),
    ):
        with pytest.raises(AudioError) as raised:
            failing()
        assert str(tmp_path) not in str(raised.value)
        assert "broken.wav" in str(raised.value)


@pytest.mark.parametrize(
    ("given", "fields", "says"),
    [
        ("", {}, "empty query"),
        (None, {}, "needs a reference"),
        ([], {}, "empty query"),
        ("", {"emotion": {"low": -1}}, "only taken off"),
        ("seg:1", {"avoid": [" "]}, "empty query"),
        ("", {"trajectory": True}, "empty query"),
        (None, {"trajectory": True}, "empty query"),
        ("seg:1", {"trajectory": True}, "single segment"),
        ([Reference("seg:1", 2.0), "seg:2"], {"trajectory": True}, "no weights"),
        ("low,bored", {"trajectory": True}, "no emotion or label 'bored'"),
        ("seg:1", {"group_by": ["prodcut"]}, "did you mean product"),
    ],
    ids=str,
)
@pytest.mark.parametrize("roots", [None, ()])
def test_what_makes_no_sense(collection: Collection, given: Any, fields: dict[str, Any], says: str, roots: Any) -> None:
    with pytest.raises(QueryError, match=says) as raised:
        Retriever(collection, roots=roots).query(given, template(fields))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("low", "did you mean emotion:low"),
        ("Tired", "did you mean label:tired"),
        ("how are angry customers treated?", "known names: emotion:low"),
    ],
)
def test_a_bare_word_is_no_reference(
    collection: Collection, word: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With roots, the line is the same whether a file of that name lies outside of them or not."""
    with pytest.raises(AudioNotFound, match=says) as raised:
        Retriever(collection).query(word, template({}))
    (tmp_path / "root").mkdir()
    (tmp_path / word).write_bytes(wav_bytes(speech(2.0)))
    (tmp_path / f"{word},tired").write_bytes(wav_bytes(speech(2.0)))
    monkeypatch.chdir(tmp_path)
    confined = Retriever(collection, roots=["root"])
    for given, fields in (
        (word, {}),
        ("seg:1", {"avoid": [word]}),
        (word, {"trajectory": True}),
        (["call:1", word], {"trajectory": True}),
    ):
        with pytest.raises(AudioNotFound) as told:
            confined.query(given, template(fields))
        assert str(told.value) == str(raised.value)
    if word == "low":  # stages, and not the file beside the root
        found = confined.query("low,tired", template({"trajectory": True}))
        assert found.references == ("emotion:low", "label:tired")


def test_nothing_leads_out_of_the_roots(collection: Collection, place: Path, tmp_path: Path) -> None:
    """However it is written: with a weight, as one to avoid, as a stage of a trajectory."""
    calls = place.parent / "calls"
    outside = str(save(tmp_path / "outside.wav", speech(2.0)))
    confined = Retriever(collection, roots=[calls])
    trajectory = {"trajectory": True}
    for given, fields, error in (
        ([Reference(outside, 2.0), "seg:1"], {}, PathForbidden),
        ([{"source": outside, "weight": 2.0}], {}, PathForbidden),
        (Reference(outside, 2.0), {}, PathForbidden),
        (Path(outside), {}, PathForbidden),
        ("seg:1", {"avoid": [outside]}, PathForbidden),
        ("seg:1", {"avoid": outside}, PathForbidden),
        ("seg:1", {"avoid": [{"source": outside, "weight": 1}]}, PathForbidden),
        ("", {"emotion": "low", "avoid": [outside]}, PathForbidden),
        (outside, trajectory, PathForbidden),
        (["emotion:low", outside], trajectory, PathForbidden),
        ([outside, Path(outside)], trajectory, PathForbidden),
        (f"low,{outside}", trajectory, NotStored),  # stages in one string are names and ids, never files
        (f"emotion:low,{outside}", trajectory, NotStored),
        (f"label:tired, {outside}", trajectory, NotStored),
        (f"{outside},low", trajectory, NotStored),
    ):
        with pytest.raises(error):
            confined.query(given, template(fields))
    for pair in ((outside, "call:1"), ("call:1", outside)):
        with pytest.raises(PathForbidden):
            confined.compare(*pair)
    (calls / "low,high.wav").write_bytes((calls / "bela.wav").read_bytes())
    by_name = confined.query("low,high.wav", template({"trajectory": True, "k": 1}))
    assert (by_name.references, by_name[0].name) == (("low,high.wav",), "bela")


def test_paths_are_confined_to_roots(collection: Collection, place: Path, tmp_path: Path) -> None:
    calls = place.parent / "calls"
    outside = tmp_path / "outside.wav"
    outside.write_bytes((calls / "anna.wav").read_bytes())
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link.wav").symlink_to(outside)
    one = template({"k": 1})
    assert Retriever(collection).query(str(outside), one)[0].name == "anna"
    confined = Retriever(collection, roots=[calls, tmp_path / "inside"])
    for allowed in ("anna.wav", str(calls / "anna.wav"), (calls / "anna.wav").as_uri(), calls / "anna.wav"):
        found = confined.query(allowed, one)
        assert (found[0].name, found.references) == ("anna", (os.fspath(allowed),))
    for forbidden in (str(outside), "../outside.wav", "link.wav", "/etc/hostname", outside, "nothing.wav", "a" * 5000):
        with pytest.raises(PathForbidden):
            confined.query(forbidden, one)
    with pytest.raises(E2vsearchError):
        confined.query("a\0b.wav", one)
    with pytest.raises(PathForbidden, match="without --root"):
        Retriever(collection, roots=[]).query(str(calls / "anna.wav"), one)
    assert len(Retriever(collection, roots=[]).query(wav_bytes(speech(2.0)), one)) == 1


def test_references() -> None:
    array = np.zeros(16_000, np.float32)
    assert references("a.wav") == (Reference("a.wav"),)
    assert references(["a.wav", "seg:1"]) == (Reference("a.wav"), Reference("seg:1"))
    assert references(b"RIFF") == (Reference(b"RIFF"),)
    assert references([0.1, 0.2]) == (Reference([0.1, 0.2]),)
    assert references([[0.1], [0.2]]) == (Reference([[0.1], [0.2]]),)  # type: ignore[list-item]
    assert references(None) == ()
    assert references([{"source": "a.wav", "weight": 2}, "b.wav"]) == (Reference("a.wav", 2), Reference("b.wav"))
    assert references(array)[0].source is array
    assert len(references([array, [0.1, 0.2]])) == 2


def test_several_references_count_as_one(collection: Collection) -> None:
    clip = wav_bytes(speech(2.0, pitch_hz=190.0))
    found = Retriever(collection).query(["seg:1", clip], template({}))
    assert timeless(found) == timeless(collection.query("seg:1", clip))


WITHOUT = """
import importlib, sys
from e2vsearch.errors import MissingExtra
for name in ("langchain_core", "llama_index", "haystack", "mcp"):
    sys.modules[name] = None  # as if it were not installed
import e2vsearch.integrations.retriever, e2vsearch.integrations.documents
for room in ("langchain", "llama_index", "haystack", "mcp"):
    try:
        importlib.import_module(f"e2vsearch.integrations.{room}")
    except MissingExtra as error:
        print(error)
from e2vsearch.cli import main
sys.argv = ["e2vsearch", "mcp"]
main()
"""


@pytest.mark.slow
def test_a_missing_package_is_named_with_its_extra() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "the LangChain retriever needs the 'langchain' extra: pip install 'e2vsearch[langchain]'",
        "the LlamaIndex retriever needs the 'llama-index' extra: pip install 'e2vsearch[llama-index]'",
        "the Haystack retriever needs the 'haystack' extra: pip install 'e2vsearch[haystack]'",
        "the MCP server needs the 'mcp' extra: pip install 'e2vsearch[mcp]'",
    ]
    assert (done.returncode, done.stderr) == (1, f"e2vsearch: {done.stdout.splitlines()[3]}\n")


@pytest.mark.slow
def test_a_query_loads_no_framework() -> None:
    code = "import sys, e2vsearch.integrations.retriever, e2vsearch.integrations.documents; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"langchain_core", "llama_index", "haystack", "mcp", "pydantic", "faiss"}
