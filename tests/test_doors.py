"""Every door gives the answer of the Python interface, field for field, on a collection that recalibrates.

The encoder ships a projection, so that the probabilities of a clip are not the encoder's own: a door that rebuilds the
way from audio to emotions by itself gives others. A question is put to each door that has its fields.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from house import CLIP, QUESTIONS, House, Plain, answer, open_house, python

import e2vsearch
from e2vsearch.cli.output import plain
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.pipeline import embed_audio, emotion_of, stored_audio
from e2vsearch.search.query import Query
from e2vsearch.search.result import QueryResult
from e2vsearch.types import EmbeddedAudio


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from open_house(tmp_path_factory.mktemp("doors"))


# --- doors: each returns what it shows of the answer, under the names of `answer`


def by_keywords(house: House, run: Run, question: Plain) -> Plain:
    query = python(question)
    given = {each.name: getattr(query, each.name) for each in fields(query) if each.name != "references"}
    return answer(house.collection.query(*query.references, **given), house)


def command_line(house: House, run: Run, question: Plain) -> Plain:
    typed: list[object] = []
    for name, value in question.items():
        option = "--" + name.replace("_", "-")
        if name in ("references", "avoid"):
            pairs = [each if isinstance(each, list) else [each, None] for each in value]
            sources, weights = [source for source, _ in pairs], [weight for _, weight in pairs]
            typed += sources if name == "references" else [part for each in sources for part in (option, each)]
            weight = {"references": "--weight", "avoid": "--avoid-weight"}[name]
            typed += [weight, ",".join(map(str, weights))] if weights[0] is not None else []
        elif name in ("emotion", "named_vectors"):
            option = option.removesuffix("s")
            typed += [part for each, weight in value.items() for part in (option, f"{each}={weight}")]
        elif isinstance(value, bool):
            typed += [option] if value else []
        else:
            option = "-k" if name == "k" else option
            typed += [part for each in (value if isinstance(value, list) else [value]) for part in (option, each)]
    ran = run("query", *typed, "--index", house.index, "--format", "json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    hidden: Plain = {"alignment": [], "why": None}  # shown where they can be filled
    hits = [hidden | {name: value for name, value in row.items() if name != "rank"} for row in found["hits"]]
    assert [row["rank"] for row in found["hits"]] == list(range(1, len(hits) + 1))
    return dict(found) | {"hits": hits}


def http(house: House, run: Run, question: Plain) -> Plain:
    body = dict(question)
    for name, weights in (("references", "weights"), ("avoid", "avoid_weights")):
        pairs = [each for each in body.get(name, ()) if isinstance(each, list)]
        if pairs:
            body |= {name: [each[0] for each in pairs], weights: [each[1] for each in pairs]}
    return posted(house, "/query", json=body)


def upload(house: House, run: Run, question: Plain) -> Plain:
    form = dict(question)
    clip = str(*form.pop("references", [form.get("trajectory")]))
    pairs = [each for each in form.get("avoid", ()) if isinstance(each, list)]
    if pairs:
        form |= {"avoid": [each[0] for each in pairs], "avoid_weights": [each[1] for each in pairs]}
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in form.items()}
    form |= {"trajectory": "true"} if "trajectory" in form else {}
    found = posted(house, "/query/upload", files={"file": ("client.wav", Path(clip).read_bytes())}, data=form)
    return dict(json.loads(json.dumps(found).replace('"client.wav"', json.dumps(clip))))


def posted(house: House, path: str, **body: Any) -> Plain:
    if house.client is None:
        pytest.skip("the 'serve' extra is not installed")
    response = house.client.post(path, **body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def client(house: House, run: Run, question: Plain) -> Plain:
    pytest.importorskip("httpx", reason="the 'client' extra is not installed")
    import httpx

    from e2vsearch.client import AsyncClient

    async def ask() -> QueryResult:
        transport = httpx.ASGITransport(house.client.app)
        async with AsyncClient(str(house.client.base_url), transport=transport) as asked:
            return await asked.query(python(question))

    if house.client is None:
        pytest.skip("the 'serve' extra is not installed")
    return answer(asyncio.run(ask()), house)


def _retrieved(question: Plain) -> tuple[Any, Plain]:
    """What a framework is given as its query, and the other fields."""
    rest = {name: value for name, value in question.items() if name not in ("references", "trajectory", "avoid")}
    given = [_pair(each) for each in question.get("references", ())]
    if "avoid" in question:
        rest["avoid"] = [_pair(each) for each in question["avoid"]]
    if "trajectory" in question:
        return question["trajectory"], rest | {"trajectory": True}
    return given, rest


def _pair(given: Any) -> Any:
    return {"source": given[0], "weight": given[1]} if isinstance(given, list) else given


def _documents(rows: list[tuple[str, str, Plain]]) -> Plain:
    """What documents show of an answer: their ids, texts and metadata."""
    own = ("exact", "encoder", "space")
    hits = [{name: value for name, value in found.items() if name not in own} for _, _, found in rows]
    assert [segment for segment, _, _ in rows] == [hit["segment"] for hit in hits]
    kept = {name: {found[name] for _, _, found in rows} for name in own}
    assert all(len(values) == 1 for values in kept.values())
    assert kept["encoder"] == {"fake"}
    return json.loads(json.dumps({"hits": hits, "texts": [text for _, text, _ in rows], "exact": kept["exact"].pop()}))  # type: ignore[no-any-return]


def langchain(house: House, run: Run, question: Plain) -> Plain:
    pytest.importorskip("langchain_core", reason="the 'langchain' extra is not installed")
    from e2vsearch.integrations.langchain import E2vsearchRetriever

    given, rest = _retrieved(question)
    found = E2vsearchRetriever(collection=house.collection, k=20).invoke(given, None, **rest)
    return _documents([(str(each.id), each.page_content, each.metadata) for each in found])


def llama_index(house: House, run: Run, question: Plain) -> Plain:
    pytest.importorskip("llama_index.core", reason="the 'llama-index' extra is not installed")
    from llama_index.core.schema import QueryBundle

    from e2vsearch.integrations.llama_index import E2vsearchRetriever

    given, rest = _retrieved(question)
    own: Plain = {"k": 20} | {name: rest.pop(name) for name in ("k", "by", "where") if name in rest}
    retriever = E2vsearchRetriever(house.collection, **own, query_fields=rest)
    given = given if isinstance(given, list) else [given]
    found = retriever.retrieve(QueryBundle("words for the model", custom_embedding_strs=given))
    return _documents([(each.node.node_id, each.node.get_content(), each.node.metadata) for each in found])


def haystack(house: House, run: Run, question: Plain) -> Plain:
    pytest.importorskip("haystack", reason="the 'haystack' extra is not installed")
    from e2vsearch.integrations.haystack import E2vsearchRetriever

    given, rest = _retrieved(question)
    own = {"filters": rest.pop("where", None), "top_k": rest.pop("k", 20)}
    query = {"query": given[0] if isinstance(given, list) else given} if given else {}
    retriever = E2vsearchRetriever(collection=house.collection, by=rest.pop("by", "recording"))
    found = retriever.run(**query, **own, query_fields=rest)["documents"]
    return _documents([(each.id, each.content or "", each.meta) for each in found])


def mcp(house: House, run: Run, question: Plain) -> Plain:
    given = dict(question)
    if "references" in given:
        (given["reference"],) = given.pop("references")
    found = _called(house, "find_similar", {"k": 20} | given)
    texts = found.content[0].text.split("\n\n")
    assert found.structured_content.pop("encoder") == "fake"
    return dict(found.structured_content) | {"texts": texts}


def mcp_bytes(house: House, run: Run, question: Plain) -> Plain:
    given = dict(question)
    (clip,) = given.pop("references")
    found = _called(house, "find_similar", {"k": 20, "audio_base64": _base64(clip)} | given).structured_content
    found.pop("encoder")
    (name,) = found["references"]
    return dict(json.loads(json.dumps(found).replace(json.dumps(name), json.dumps(clip))))


def _base64(clip: str) -> str:
    return base64.b64encode(Path(clip).read_bytes()).decode()


def _called(house: House, tool: str, arguments: Plain) -> Any:
    pytest.importorskip("mcp.server.mcpserver", reason="the 'mcp' extra is not installed")
    from opened_mcp import connected

    from e2vsearch.integrations.mcp import make_server
    from e2vsearch.integrations.retriever import Retriever

    async def call() -> Any:
        async with connected(make_server(Retriever(house.collection))) as client:
            return await client.call_tool(tool, arguments)

    found = asyncio.run(call())
    assert not found.is_error, found.content
    return found


@dataclass(frozen=True)
class Door:
    """A way in."""

    ask: Callable[[House, Run, Plain], Plain]
    lacks: frozenset[str] = frozenset()  # fields of a query that it does not take
    clips_only: bool = False
    one_reference: bool = False
    weighs: bool = True  # takes a reference with a weight
    clip_alone: bool = False  # takes no reference beside a clip

    def takes(self, question: Plain) -> bool:
        """Whether the question can be put to it."""
        given = question.get("references", ())
        if self.clip_alone and CLIP in given and len(given) > 1:
            return False
        if self.lacks & question.keys() or (self.one_reference and len(given) > 1):
            return False
        if not self.weighs and any(isinstance(each, list) for each in (*given, *question.get("avoid", ()))):
            return False
        return not self.clips_only or CLIP in (*given, question.get("trajectory"))


DOORS = {
    "keywords": Door(by_keywords),
    "command line": Door(command_line),
    "http": Door(http),
    "upload": Door(upload, frozenset({"named_vectors"}), clips_only=True, one_reference=True),
    "client": Door(client, clip_alone=True),
    "langchain": Door(langchain),
    "llama-index": Door(llama_index),
    "haystack": Door(haystack, one_reference=True),
    "mcp": Door(mcp, one_reference=True, weighs=False),
    "mcp, bytes": Door(
        mcp_bytes, frozenset({"trajectory", "emotion"}), clips_only=True, one_reference=True, weighs=False
    ),
}


@pytest.fixture(scope="module")
def expected(house: House) -> Callable[[str], Mapping[str, Any]]:
    """The answers of `Collection.query` with a `Query`, each found once."""
    kept: dict[str, Plain] = {}

    def of(name: str) -> Plain:
        if name not in kept:
            kept[name] = answer(house.collection.query(python(house.filled(QUESTIONS[name]))), house)
        return kept[name]

    return of


@pytest.mark.parametrize(
    ("door", "name"),
    [(door, name) for door, each in DOORS.items() for name, question in QUESTIONS.items() if each.takes(question)],
)
def test_every_door_gives_the_same_answer(
    house: House, run: Run, expected: Callable[[str], Plain], door: str, name: str
) -> None:
    wanted = expected(name)
    found = DOORS[door].ask(house, run, house.filled(QUESTIONS[name]))
    if "seconds" in found:
        found["seconds"] = None
    digits = plain if door == "command line" else dict  # it prints six places
    assert found == digits({field: wanted[field] for field in found})
    assert found.keys() >= {"hits", "exact"}
    assert found["hits"]


def test_the_questions_ask_for_everything() -> None:
    asked = {name for question in QUESTIONS.values() for name in question}
    assert asked == {each.name for each in fields(Query)}


def test_the_collection_recalibrates(house: House) -> None:
    """Else no answer could tell a door that takes the encoder's own probabilities."""
    (own,) = embed_audio(house.clips[1], FakeEncoder()).segments
    (found,) = house.collection.embed(house.clips[1]).segments
    assert own.scores is not None
    assert found.scores is not None
    assert np.abs(found.scores - own.scores).max() > 0.01
    assert {each.emotion for each in house.collection.segments()} == {"low", "high", "unsure"}


# --- compare and embed


@pytest.mark.slow
def test_every_door_compares_alike(house: House, run: Run) -> None:
    clips = tuple(map(str, house.clips))
    for a, b in (clips, ("call:2", "seg:9"), (clips[0], "call:3")):
        wanted = json.loads(json.dumps(asdict(house.collection.compare(a, b))))
        assert wanted["space"]["projection"].startswith("shipped@")
        ran = run("compare", a, b, "--index", house.index, "--format", "json")
        assert ran.code == 0, ran.err
        assert json.loads(ran.out) == plain(wanted)
        assert json.loads(json.dumps(asdict(e2vsearch.compare(a, b, index=house.index)))) == wanted
        short = _called(house, "compare", {"a": a, "b": b}).structured_content
        space = wanted["space"]
        named = {name: wanted[name] for name in ("score", "best", "a", "b")}
        assert short == named | {"encoder": space["encoder"], "projection": space["projection"]}
        assert posted(house, "/compare", json={"a": a, "b": b}) == wanted
    wanted = json.loads(json.dumps(asdict(house.collection.compare(*clips))))
    wanted["a"]["name"], wanted["b"]["name"] = "a.wav", "b.wav"
    files = {name: (f"{name}.wav", Path(clip).read_bytes()) for name, clip in zip("ab", clips, strict=True)}
    assert posted(house, "/compare/upload", files=files) == wanted


def embedded(house: House, found: EmbeddedAudio) -> Plain:
    """The answer of ``/embed``, made of what `Collection.embed` returns."""
    space = house.collection.space
    assert space is not None
    segments = []
    for each in found.segments:
        emotion = emotion_of(space, [each])
        assert emotion is not None
        assert each.scores is not None
        named = {"emotion": emotion.name, "emotion_score": emotion.score}
        named |= {"arousal": emotion.arousal, "valence": emotion.valence}
        at = {name: getattr(each, name) for name in ("channel", "start_s", "end_s", "level_db")}
        scores = dict(zip(space.labels, each.scores.tolist(), strict=True))
        segments.append(at | named | {"scores": scores, "vector": each.vector.tolist()})
    return dict(json.loads(json.dumps({"space": str(space), "dim": space.dim, "segments": segments})))


def test_every_door_embeds_alike(house: House, run: Run, tmp_path: Path) -> None:
    clip = house.clips[0]
    wanted = embedded(house, house.collection.embed(clip))
    assert posted(house, "/embed", json={"reference": str(clip)}) == wanted
    assert posted(house, "/embed/upload", files={"file": ("a.wav", clip.read_bytes())}) == wanted
    for name in ("call:2", "seg:9"):
        stored = embedded(house, stored_audio(house.collection.catalog, name))
        assert posted(house, "/embed", json={"reference": name}) == stored


def test_the_command_line_embeds_one_vector_a_file(house: House, run: Run, tmp_path: Path) -> None:
    """Without a collection: the vector is the same, the probabilities are the encoder's own."""
    clip = house.clips[1]
    (segment,) = house.collection.embed(clip).segments
    (own,) = embed_audio(clip, FakeEncoder()).segments
    ran = run("embed", clip, "-o", tmp_path, "--index", house.index)
    assert ran.code == 0, ran.err
    (found,) = ran.rows
    assert np.load(found["embedding"]).tolist() == segment.vector.tolist()
    assert own.scores is not None
    assert list(found["scores"].values()) == plain(own.scores.tolist())
