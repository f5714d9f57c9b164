"""The Haystack component: in a pipeline, written down and read back, and Haystack's filters in our words."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import json
import os
import threading
from collections.abc import Iterator
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from late import late
from made import speech, wav_bytes
from small_collection import SAID, make_collection

import e2vsearch
from e2vsearch.collection import Collection
from e2vsearch.errors import AudioNotFound, BadFilter, NoCollection, QueryError, SettingsError
from e2vsearch.integrations.documents import describe, metadata
from e2vsearch.search.query import Query, Reference

pytestmark = pytest.mark.skipif(find_spec("haystack") is None, reason="the 'haystack' extra is not installed")
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read when Haystack is imported; tests ask no network
if TYPE_CHECKING:
    from haystack import Pipeline
    from haystack.components.builders import PromptBuilder
    from haystack.dataclasses import ByteStream, Document
    from haystack.utils.filters import document_matches_filter

    from e2vsearch.integrations.haystack import E2vsearchRetriever, to_where
else:
    Pipeline, PromptBuilder = late("haystack", "Pipeline"), late("haystack.components.builders", "PromptBuilder")
    ByteStream, Document = (late("haystack.dataclasses", name) for name in ("ByteStream", "Document"))
    document_matches_filter = late("haystack.utils.filters", "document_matches_filter")
    NAMES = ("E2vsearchRetriever", "to_where")
    E2vsearchRetriever, to_where = (late("e2vsearch.integrations.haystack", name) for name in NAMES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("haystack"))


@pytest.fixture(scope="module")
def collection(place: Path) -> Iterator[Collection]:
    with e2vsearch.open(place, encoder="fake") as collection:
        yield collection


def names(documents: list[Document]) -> set[str]:
    return {document.meta["name"] for document in documents}


# --- the component


def test_a_document_is_a_segment(collection: Collection) -> None:
    [document] = E2vsearchRetriever(collection=collection, query_fields={"text": "refund"}).run(query="seg:1")[
        "documents"
    ]
    assert document.id == document.meta["segment"]
    assert document.score == document.meta["score"]
    assert f'text: "{SAID}"' in document.content  # type: ignore[operator]
    json.dumps(document.meta, allow_nan=False)


def test_every_kind_of_reference(collection: Collection) -> None:
    clip = speech(2.0, seed=5, pitch_hz=150.0)
    vector = collection.embed(clip).segments[0].vector.tolist()
    data = wav_bytes(clip, subtype="FLOAT")
    retriever = E2vsearchRetriever(collection=collection, top_k=3)
    by_vector = [each.id for each in retriever.run(query_embedding=vector)["documents"]]
    assert [each.id for each in retriever.run(audio=ByteStream(data))["documents"]] == by_vector
    assert [each.id for each in retriever.run(query_embedding=vector, audio=ByteStream(data))["documents"]] == by_vector
    assert len(retriever.run(query="call:1", query_embedding=vector, top_k=1)["documents"]) == 1
    with pytest.raises(QueryError, match="nothing to look for"):
        retriever.run()
    with pytest.raises((AudioNotFound, QueryError), match="angry"):
        retriever.run(query="who is angry?")


@pytest.mark.parametrize(
    ("given", "fields", "expected"),
    [
        (
            {"query": "seg:1"},
            {
                "avoid": [{"source": "seg:5", "weight": 0.3}], "emotion": {"low": 0}, "min_probability": 0.1,
                "group_by": ["recording", "product"], "group_size": [2, 1], "explain": True,
            },
            Query(
                ("seg:1",), avoid=(Reference("seg:5", 0.3),), emotion={"low": 0}, min_probability=0.1,  # type: ignore[arg-type]
                group_by=("recording", "product"), group_size=(2, 1), explain=True, k=9,
            ),
        ),
        ({}, {"emotion": {"low": 1.0}}, Query(emotion={"low": 1.0}, k=9)),
        ({"query": "call:2"}, {"trajectory": True, "explain": True}, Query(trajectory="call:2", explain=True, k=9)),
        ({"query": "seg:1"}, {"text": "refund", "exact": True}, Query(("seg:1",), text="refund", exact=True, k=9)),  # type: ignore[arg-type]
    ],
    ids=str,
)  # fmt: skip
def test_all_that_a_query_can_say(
    collection: Collection, place: Path, given: dict[str, Any], fields: dict[str, Any], expected: Query
) -> None:
    """Set on the component, read back from JSON, or given to one run, it is what `Collection.query` returns."""
    hits, space = collection.query(expected), collection.space
    documents = [(hit.segment, describe(hit, space), metadata(hit, space, exact=hits.exact), hit.score) for hit in hits]
    written = E2vsearchRetriever(str(place), top_k=9, encoder="fake", query_fields=fields).to_dict()
    assert written["init_parameters"]["query_fields"] == fields
    read = E2vsearchRetriever.from_dict(json.loads(json.dumps(written)))
    assert read.to_dict() == written
    for found in (
        read.run(**given),
        E2vsearchRetriever(collection=collection, top_k=9, query_fields=fields).run(**given),
        E2vsearchRetriever(collection=collection).run(**given, top_k=9, query_fields=fields),
    ):
        assert [(each.id, each.content, each.meta, each.score) for each in found["documents"]] == documents
    read._source.collection.close()


def test_fields_in_python_are_written_as_json(place: Path) -> None:
    fields = {"avoid": (Reference("calm.wav", 0.3), Path("a.wav")), "named_vectors": {"topic": (0.5, "seg:1")}}
    made = E2vsearchRetriever(str(place), query_fields=fields, roots=[str(place)])
    written = json.loads(json.dumps(made.to_dict()))
    assert written["init_parameters"]["query_fields"] == {
        "avoid": [{"source": "calm.wav", "weight": 0.3}, "a.wav"],
        "named_vectors": {"topic": [0.5, "seg:1"]},
    }
    assert E2vsearchRetriever.from_dict(written).to_dict() == written
    for wrong in ({"k": 3}, {"kk": 3}, {"where": "channel = 0"}):
        with pytest.raises(TypeError):
            E2vsearchRetriever(str(place), query_fields=wrong)


def test_filters_of_a_run_replace_those_of_the_component(collection: Collection) -> None:
    retriever = E2vsearchRetriever(collection=collection, filters="product = anna")
    assert names(retriever.run(query="seg:4")["documents"]) == {"anna"}
    billing = {"field": "meta.metadata.queue", "operator": "==", "value": "billing"}
    assert names(retriever.run(query="seg:4", filters=billing)["documents"]) == {"bela", "cora", "dora"}


async def test_a_run_in_a_loop(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Haystack runs a component that has no coroutine in a thread, so the loop goes on."""
    if not hasattr(Pipeline, "run_async"):
        pytest.skip("Haystack 2 has a pipeline of its own for loops")
    going_on = threading.Event()
    query_of = Collection.query

    def query(self: Collection, *references: Any, **fields: Any) -> Any:
        assert going_on.wait(10)
        return query_of(self, *references, **fields)

    monkeypatch.setattr(Collection, "query", query)
    made = piped(E2vsearchRetriever(collection=collection, top_k=2))
    running = asyncio.create_task(made.run_async({"retriever": {"query": "seg:1"}, "prompt": {"question": "Why?"}}))
    await asyncio.sleep(0)
    going_on.set()
    assert (await running)["prompt"]["prompt"].count("[seg:") == 2


def test_warming_up_opens_it(place: Path) -> None:
    retriever = E2vsearchRetriever(str(place), encoder="fake")
    retriever.warm_up()
    assert retriever._source.collection.encoder().space.encoder == "fake"
    retriever._source.collection.close()
    encoderless = E2vsearchRetriever(str(place), encoder="no such encoder", top_k=1)
    encoderless.warm_up()
    assert len(encoderless.run(query="seg:1")["documents"]) == 1
    encoderless._source.collection.close()
    with pytest.raises(NoCollection):
        E2vsearchRetriever(str(place / "nothing")).warm_up()


def piped(retriever: E2vsearchRetriever) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("retriever", retriever)
    template = "{{question}}\n{% for document in documents %}{{document.content}}\n{% endfor %}"
    pipeline.add_component("prompt", PromptBuilder(template, required_variables="*"))
    pipeline.connect("retriever.documents", "prompt.documents")
    return pipeline


def test_a_pipeline_is_written_down_and_read_back(place: Path) -> None:
    not_dora = {"field": "product", "operator": "!=", "value": "dora"}
    made = piped(E2vsearchRetriever(str(place), encoder="fake", top_k=2, by="segment", filters=not_dora))
    written = made.dumps()
    guarded = "allowed_modules" in inspect.signature(Pipeline.loads).parameters  # since Haystack 3
    trusted = {"allowed_modules": ["e2vsearch.integrations.haystack"]} if guarded else {}
    pipeline = Pipeline.loads(written, **trusted)  # type: ignore[arg-type]
    assert pipeline.dumps() == written
    asked = {"retriever": {"query": "call:1"}, "prompt": {"question": "Why?"}}
    prompt = pipeline.run(asked)["prompt"]["prompt"]
    assert prompt == made.run(asked)["prompt"]["prompt"]
    assert prompt.startswith("Why?\n[seg:")
    assert prompt.count("[seg:") == 2
    for each in (made, pipeline):
        each.get_component("retriever")._source.collection.close()  # type: ignore[attr-defined]


def test_an_open_collection_is_written_as_its_index(collection: Collection, place: Path) -> None:
    written = E2vsearchRetriever(collection=collection).to_dict()
    assert written["type"] == "e2vsearch.integrations.haystack.E2vsearchRetriever"
    assert written["init_parameters"]["index"] == str(place)
    assert E2vsearchRetriever.from_dict(written).index == str(place)


def test_a_password_is_not_written() -> None:
    secret = E2vsearchRetriever("postgresql://ida:hunter2@db/calls")
    with pytest.raises(SettingsError, match="E2VSEARCH_INDEX") as told:
        secret.to_dict()
    assert "hunter2" not in str(told.value)
    assert E2vsearchRetriever("postgresql://ida@db/calls").to_dict()


# --- filters

PRODUCT = {"field": "meta.product", "operator": "==", "value": "bela"}
WAIT = {"field": "meta.wait", "operator": ">", "value": 4}


def test_translated_filters() -> None:
    from e2vsearch.integrations.haystack import filters

    assert to_where(None) is None
    assert to_where({}) is None
    assert to_where("channel = 1") == "channel = 1"
    assert to_where(PRODUCT) == '`product` = "bela"'
    assert to_where({"operator": "AND", "conditions": [PRODUCT, WAIT]}) == '(`product` = "bela" and `wait` > 4)'
    assert to_where({"field": "id", "operator": "==", "value": "seg:3"}) == '`segment` = "seg:3"'
    assert to_where({"field": "meta.metadata.channel", "operator": "==", "value": "x"}) == '`meta.channel` = "x"'
    assert to_where({"field": "date", "operator": ">=", "value": "2024-03-01"}) == "`date` >= 2024-03-01"
    assert to_where({"field": "date", "operator": "<", "value": date(2024, 3, 1)}) == "`date` < 2024-03-01"
    at = datetime(2024, 3, 1, 9, 30)
    assert to_where({"field": "date", "operator": "<", "value": at}) == "`date` < 2024-03-01T09:30:00"
    assert doctest.testmod(filters).failed == 0


MATRIX: list[dict[str, Any]] = [
    PRODUCT,
    WAIT,
    {"field": "meta.wait", "operator": ">=", "value": 5},
    {"field": "meta.wait", "operator": "<", "value": 10},
    {"field": "meta.wait", "operator": "<=", "value": 10},
    {"field": "meta.wait", "operator": "!=", "value": 10},
    {"field": "meta.product", "operator": "!=", "value": "bela"},
    {"field": "meta.queue", "operator": "!=", "value": "billing"},  # holds for anna, who has none
    {"field": "meta.queue", "operator": "==", "value": None},
    {"field": "meta.queue", "operator": "!=", "value": None},
    {"field": "meta.product", "operator": "in", "value": ["anna", "dora"]},
    {"field": "meta.product", "operator": "in", "value": []},
    {"field": "meta.queue", "operator": "not in", "value": ["billing"]},
    {"field": "meta.queue", "operator": "not in", "value": ["other"]},
    {"field": "meta.product", "operator": "not in", "value": []},
    {"operator": "OR", "conditions": [PRODUCT, {"field": "meta.product", "operator": "==", "value": "dora"}]},
    {"operator": "NOT", "conditions": [PRODUCT, WAIT]},
    {"operator": "NOT", "conditions": [{"operator": "OR", "conditions": [PRODUCT, WAIT]}]},
    {"operator": "AND", "conditions": [WAIT, {"operator": "NOT", "conditions": [PRODUCT]}]},
    {"field": "meta.name", "operator": "==", "value": "cora"},
]


@pytest.mark.parametrize("given", MATRIX, ids=lambda given: str(given)[:70])
def test_filters_mean_what_they_mean_in_haystack(collection: Collection, given: dict[str, Any]) -> None:
    """Judged by Haystack's own matching of the same calls as documents."""
    calls = []
    for _, recording in collection.catalog.recordings():
        meta: dict[str, Any] = dict(recording.metadata)
        calls.append(Document(content="", meta={**meta, "wait": int(meta["wait"]), "name": recording.name}))
    expected = {call.meta["name"] for call in calls if document_matches_filter(given, call)}
    found = collection.query("seg:1", k=10, include_self=True, where=to_where(given))
    assert {hit.name for hit in found} == expected


@pytest.mark.parametrize(
    "value",
    [
        "both \" and '",
        'x" or product = "bela',
        '"" or product = "bela',
        '"',
        "x' or product = 'bela",
        "`",
        "x\nor",
        "%",
        "seg:1",
        "null",
        "a) or (product = bela",
    ],
)
def test_a_value_cannot_leave_its_quotes(collection: Collection, value: str) -> None:
    where = to_where({"field": "meta.product", "operator": "==", "value": value})
    assert len(collection.query("seg:1", where=where)) == 0
    assert where is not None
    assert len(collection.query("seg:1", where=f"not ({where})")) == 4


@pytest.mark.parametrize(
    "given",
    [
        {"operator": "AND"},
        {"operator": "AND", "conditions": []},
        {"operator": "XOR", "conditions": [PRODUCT]},
        {"field": "product", "value": "x"},
        {"field": "product", "operator": "=="},
        {"field": "product", "operator": "like", "value": "x"},
        {"field": "wait", "operator": ">", "value": None},
        {"field": "wait", "operator": ">", "value": [1]},
        {"field": "wait", "operator": ">", "value": float("nan")},
        {"field": "wait", "operator": "==", "value": True},
        {"field": "product", "operator": "in", "value": "bela"},
        {"field": "product", "operator": "not in", "value": "bela"},
        {"field": "product` = 1 or `product", "operator": "==", "value": "x"},
        {"field": "", "operator": "==", "value": "x"},
        {"product": "bela"},
        "prodcut = bela",
    ],
    ids=str,
)
def test_what_is_no_filter_is_refused(collection: Collection, given: Any) -> None:
    with pytest.raises(BadFilter) as told:
        E2vsearchRetriever(collection=collection).run(query="seg:1", filters=given)
    assert "\n" not in str(told.value)
