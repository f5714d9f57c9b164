"""The MCP server as a client uses it: the command over stdio, every tool, the sound of a segment."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import save, silence, speech, wav_bytes
from small_collection import SAID, make_collection

pytest.importorskip("mcp.server.mcpserver", reason="the 'mcp' extra is not installed")

from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError
from opened_mcp import COMMAND, TOOLS, connected
from pydantic import TypeAdapter

import e2vsearch
from e2vsearch import audio
from e2vsearch.integrations.mcp import make_server
from e2vsearch.integrations.mcp.results import MAX_MATCHES
from e2vsearch.integrations.mcp.tools import MAX_CLIP_BYTES, MAX_CLIP_S
from e2vsearch.integrations.retriever import Retriever
from e2vsearch.search.query import Query
from e2vsearch.search.result import QueryResult
from e2vsearch.types import Recording, Segment, Space


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("mcp"))


@pytest.fixture(scope="module")
def mapped(place: Path) -> Path:
    """The same with a map of one cluster: its first six moments. Stored as it is, since making one takes an extra."""
    from e2vsearch.analysis.maps.types import CentralSegment, Cluster, MapOptions, Proportion
    from e2vsearch.catalog.maps import Points, StoredMap, save

    with e2vsearch.open(place, create=True) as collection:
        ids = collection.catalog.select("segment is not null")
        zeros, inside = np.zeros(ids.size, np.float32), np.where(ids <= 6, 0, -1).astype(np.int32)
        first = collection.segments("seg:1")[0]
        moment = CentralSegment("seg:1", "call:1", "anna", 0, first.start_s, first.end_s, "low", 0.8, None, 0.9)
        low = Proportion("low", 6, 1.0, 1.2)
        cluster = Cluster(0, "low", 6, 0.5, 2, 0.0, 0.0, (low,), (), (), (moment,), "day", ())
        options = {"options": asdict(MapOptions()), "versions": {}, "reach": 0.5}
        run = StoredMap("map", "segment", None, options, [asdict(cluster)], datetime(2024, 3, 1, tzinfo=UTC))
        save(collection.catalog, run, Points(ids, zeros, zeros, inside, zeros, zeros.astype(bool)))
    return place


def over_stdio(place: Path, *options: str) -> Any:
    keep = {name: value for name, value in os.environ.items() if name in ("PYTHONPATH", "HOME", "PATH")}
    arguments = [*COMMAND, "--index", str(place), *options]
    return stdio_client(StdioServerParameters(command=sys.executable, args=arguments, env=keep, cwd=place))


def shown(result: QueryResult) -> dict[str, Any]:
    """The result as the tool answers it, less the time that it took."""
    fields = asdict(result) | {"seconds": 0.0, "encoder": "fake"}
    return dict(json.loads(json.dumps(fields)))


def said(result: Any) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


# --- over stdio, as agents start it


@pytest.mark.slow
async def test_a_client_lists_and_calls_every_tool(mapped: Path) -> None:
    calls = mapped.parent / "calls"
    async with connected(over_stdio(mapped, "--root", str(calls))) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == TOOLS
        for tool in tools.values():
            assert tool.output_schema is not None
            assert tool.description is not None
            assert len(tool.description) > 60
            assert tool.annotations is not None
            assert (tool.annotations.read_only_hint, tool.annotations.destructive_hint) == (True, False)
            for name, argument in tool.input_schema.get("properties", {}).items():
                assert len(argument.get("description", "")) > 10, f"{tool.name}: {name}"

        found = await client.call_tool("find_similar", {"reference": "anna.wav", "k": 2, "where": "channel = 0"})
        assert not found.is_error, said(found)
        hits = found.structured_content["hits"]
        assert [len(hits), hits[0]["name"], hits[0]["metadata"]["product"]] == [2, "anna", "anna"]
        assert found.structured_content["where"] == "channel = 0"
        assert found.structured_content["encoder"] == "fake"
        assert said(found).count("[seg:") == 2

        whole = (await client.call_tool("get_recording", {"recording": hits[0]["recording"]})).structured_content
        assert [whole["recording"]["name"], whole["total"], len(whole["segments"])] == ["anna", 3, 3]

        compared = await client.call_tool("compare", {"a": "call:1", "b": str(calls / "anna.wav")})
        assert compared.structured_content["score"] == pytest.approx(1.0, abs=1e-3)

        names = (await client.call_tool("list_labels", {})).structured_content
        assert names["emotions"] == ["low", "high"]
        assert names["metadata"]["product"] == ["anna", "bela", "cora", "dora"]
        assert {"emotion", "channel", "date", "label"} <= set(names["fields"])

        maps = (await client.call_tool("list_maps", {})).structured_content["maps"]
        assert [each["name"] for each in maps] == ["map"]
        assert maps[0]["points"] == 12
        cluster = await client.call_tool("describe_cluster", {"cluster": 0, "map": "map"})
        assert not cluster.is_error, said(cluster)
        assert cluster.structured_content["cluster"]["size"] == 6
        assert cluster.structured_content["cluster"]["segments"][0]["segment"] == "seg:1"
        missing = await client.call_tool("describe_cluster", {"cluster": 7, "map": "map"})
        assert "its clusters are 0" in said(missing)

        templates = (await client.list_resource_templates()).resource_templates
        assert [each.uri_template for each in templates] == ["e2vsearch://segment/{number}/audio.wav"]
        link = next(block for block in found.content if block.type == "resource_link")
        assert link.uri == f"e2vsearch://segment/{hits[0]['segment'][4:]}/audio.wav"
        [clip] = (await client.read_resource(str(link.uri))).contents
        assert clip.mime_type == "audio/wav"
        sound = audio.read(base64.b64decode(clip.blob))  # type: ignore[union-attr]
        assert sound.shape[0] == 1
        assert sound.shape[1] / 16_000 == pytest.approx(hits[0]["end_s"] - hits[0]["start_s"], abs=0.001)
        assert np.abs(sound).max() > 0.05


@pytest.mark.slow
async def test_paths_outside_the_roots_are_refused(place: Path, tmp_path: Path) -> None:
    outside = save(tmp_path / "outside.wav", speech(2.0))
    inside = place.parent / "calls"
    async with connected(over_stdio(place, "--root", str(inside))) as client:
        for path in (
            str(outside),
            outside.as_uri(),
            "../index/catalog.db",
            str(inside / ".." / "index"),
            "/etc/passwd",
        ):
            for tool, arguments in (("find_similar", {"reference": path}), ("compare", {"a": path, "b": "call:1"})):
                refused = await client.call_tool(tool, arguments)
                assert refused.is_error
                assert "no file that may be read here" in said(refused)
                assert "Traceback" not in said(refused)
                assert "\n" not in said(refused)


@pytest.mark.slow
def test_stdout_carries_the_protocol_alone(place: Path) -> None:
    """Even where a request fails: each line is a message, and what went wrong is not told to the client at length."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    wrong = {"name": "get_recording", "arguments": {"recording": "x"}}
    messages: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": wrong},
    ]
    command = [sys.executable, *COMMAND, "--index", str(place)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True, cwd=place) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        answers = []
        for message in messages:
            server.stdin.write(json.dumps(message) + "\n")
            server.stdin.flush()
            if "id" in message:
                answers.append(json.loads(server.stdout.readline()))
        server.stdin.close()
        assert server.stdout.read() == ""
        assert server.wait(20) == 0
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[1]["result"]["isError"] is True


@pytest.mark.slow
def test_a_missing_collection_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, *COMMAND, "--index", str(tmp_path / "none")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


# --- what a model may write


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[MCPServer[Any]]:
    """One that may read no folder, in this process."""
    with e2vsearch.open(place, encoder="fake") as collection:
        yield make_server(Retriever(collection, roots=()))


async def test_a_clip_in_base64(server: MCPServer[Any], place: Path) -> None:
    data = wav_bytes(speech(2.0, pitch_hz=190.0))
    with e2vsearch.open(place, encoder="fake") as collection:
        expected = shown(collection.query(data, k=2, explain=True))
    async with connected(server) as client:
        for sent in (encoded(data), f"data:audio/wav;base64,{encoded(data)}"):
            found = await client.call_tool("find_similar", {"audio_base64": sent, "k": 2, "explain": True})
            assert {**found.structured_content, "seconds": 0.0} == expected


async def test_words_said(server: MCPServer[Any]) -> None:
    async with connected(server) as client:
        found = await client.call_tool("find_similar", {"reference": "seg:1", "text": "refund", "by": "segment"})
        assert {hit["text"] for hit in found.structured_content["hits"]} == {SAID}
        assert f'text: "{SAID}"' in said(found)
        nothing = await client.call_tool("find_similar", {"reference": "seg:1", "text": "zebra"})
        assert (nothing.is_error, nothing.structured_content["hits"]) == (False, [])
        assert said(nothing).startswith("Nothing found")


@pytest.mark.slow
async def test_all_that_a_query_can_say(tmp_path: Path) -> None:
    """Every field of the answer is that of `Collection.query`."""
    from e2vsearch.catalog import labels

    place, calls = make_collection(tmp_path), tmp_path / "calls"
    anna, bela = str(calls / "anna.wav"), str(calls / "bela.wav")
    names = {anna: "anna.wav", bela: "bela.wav"}  # files by the names that the client has for them
    mixed = {"low": 2.0, "tired": -0.3}
    with e2vsearch.open(place, encoder="fake") as collection:
        labels.add_examples(collection.catalog, "tired", [labels.NewExample("seg:9", segment=9)])
        async with connected(make_server(Retriever(collection, roots=[calls]))) as client:

            async def find(expected: Query, **arguments: Any) -> str:
                found = await client.call_tool("find_similar", arguments)
                assert not found.is_error, said(found)
                answer = {**found.structured_content, "seconds": 0.0}
                assert answer == shown(collection.query(expected).with_reference_names(names))
                assert str(calls) not in json.dumps([{**hit, "uri": ""} for hit in answer["hits"]])
                assert str(calls) not in said(found)
                return said(found)

            text = await find(
                Query(
                    (anna,), avoid=("seg:8", bela), emotion=mixed, min_probability=0.1, group_by=("recording",),  # type: ignore[arg-type]
                    group_size=2, by="segment", k=9, explain=True,
                ),
                reference="anna.wav", avoid=["seg:8", "bela.wav"], emotion=mixed, min_probability=0.1,
                group_by=["recording"], group_size=2, by="segment", k=9, explain=True,
            )  # fmt: skip
            first = text.split("\n\n")[0].splitlines()
            assert [line.partition(":")[0] for line in first[1:7]] == [
                "similarity", "emotions (by fake)", "this segment", "in the reference and here", "matched", "avoided",
            ]  # fmt: skip
            assert re.search(r": similarity [\d.-]+, nearer than [\d.]+ % of random pairs of segments$", first[3])
            assert '"bela.wav" takes off ' in first[6]
            text = await find(Query(("seg:1",), k=5, exact=True, text="refund", where="channel = 0"),  # type: ignore[arg-type]
                              reference="seg:1", exact=True, text="refund", where="channel = 0")  # fmt: skip
            assert "nearer than" not in text
            await find(Query(emotion={"low": 1, "tired": -0.5}, k=4), emotion={"low": 1, "tired": -0.5}, k=4)
            for given, trajectory in (("call:2", "call:2"), ("bela.wav", bela), ("low, label:tired",) * 2):
                text = await find(Query(trajectory=trajectory, k=2), trajectory=given, k=2)
                assert "\nalignment: " in text


async def test_a_long_reference_is_explained_in_short(tmp_path: Path) -> None:
    from datetime import timedelta

    from e2vsearch.catalog.rows import NewRecording, NewSegment

    rng = np.random.default_rng(0)
    with e2vsearch.open(tmp_path / "long", create=True) as collection:
        collection.catalog.pin(Space("saved", "made", 8), "saved")
        for number in range(2):
            segments = tuple(
                NewSegment(0, 2.0 * at, 2.0 * at + 1, rng.standard_normal(8).astype("f4"), None) for at in range(50)
            )
            when = datetime(2024, 3, 1, tzinfo=UTC) + timedelta(days=number)
            names = f"/{number}.wav", str(number), f"{number:064x}"
            collection.catalog.store(NewRecording(*names, 1, 1, when, 100.0, 1, 8000, "WAV", segments, {}))
        async with connected(make_server(Retriever(collection, roots=()))) as client:
            found = await client.call_tool("find_similar", {"trajectory": "call:1", "explain": True})
            [hit] = found.structured_content["hits"]
            whole = collection.query("call:1", explain=True)[0].why
            assert whole is not None
            assert len(whole.matches) == 50
            assert [len(hit["alignment"]), len(hit["why"]["matches"])] == [MAX_MATCHES, MAX_MATCHES]
            times = [each["reference_start_s"] for each in hit["alignment"]]
            assert times == sorted(times)
            assert [times[0], times[-1]] == [0.0, 98.0]
            cosines = [each["cosine"] for each in hit["why"]["matches"]]
            assert cosines == sorted(cosines, reverse=True)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


SENT = {
    "<words>": lambda: encoded(b"no audio at all"),
    "<silence>": lambda: encoded(wav_bytes(silence(2.0))),
    "<large>": lambda: "A" * (MAX_CLIP_BYTES * 4 // 3 + 5),
    "<long>": lambda: encoded(wav_bytes(silence(MAX_CLIP_S + 1, 8000), 8000, "PCM_U8")),
}


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("find_similar", {}, "one of them, or else an emotion"),
        (
            "find_similar",
            {"reference": "seg:1", "audio_base64": "UklGRg=="},
            "audio_base64 or trajectory, one",
        ),
        ("find_similar", {"reference": "seg:1", "trajectory": "call:1"}, "one of them"),
        ("find_similar", {"avoid": ["seg:1"]}, "or else an emotion"),
        ("find_similar", {"emotion": {"low": -1}}, "only taken off"),
        ("find_similar", {"emotion": {"bored": 1}}, "emotion:low"),
        ("find_similar", {"reference": "seg:1", "min_probability": 0.5}, "name one"),
        ("find_similar", {"reference": "seg:1", "min_probability": 60}, "less than or equal to 1"),
        ("find_similar", {"reference": "seg:1", "avoid": ["/etc/passwd"]}, "no file that may be read here"),
        ("find_similar", {"trajectory": "/etc/passwd"}, "no file that may be read here"),
        ("find_similar", {"trajectory": "emotion:low,/etc/passwd"}, "no emotion or label '/etc/passwd'"),
        ("find_similar", {"trajectory": "low,/etc/passwd"}, "no emotion or label '/etc/passwd'"),
        ("find_similar", {"trajectory": "low"}, "did you mean emotion:low"),
        ("find_similar", {"trajectory": "call:1", "by": "segment"}, "by recording"),
        ("find_similar", {"reference": "seg:999"}, "seg:999 is not in"),
        ("find_similar", {"reference": "angry customers"}, "no such file - known names: emotion:low"),
        ("find_similar", {"reference": "seg:1", "k": 101}, "less than or equal to 100"),
        ("find_similar", {"reference": "seg:1", "k": 0}, "greater than or equal to 1"),
        ("find_similar", {"reference": "seg:1", "by": "product"}, "'recording' or 'segment'"),
        ("find_similar", {"reference": "seg:1", "where": "prodcut = x"}, "did you mean product"),
        ("find_similar", {"audio_base64": "not base64!"}, "is no base64"),
        ("find_similar", {"audio_base64": "<words>"}, "not audio"),
        ("find_similar", {"audio_base64": "<silence>"}, "no speech"),
        ("find_similar", {"audio_base64": "<large>"}, "MiB"),
        ("find_similar", {"audio_base64": "<long>"}, f"{MAX_CLIP_S:.0f} s"),
        ("find_similar", {"reference": "a" * 5000}, "no file that may be read here"),
        ("find_similar", {"reference": "a\0b.wav"}, "no file that may be read here"),
        ("find_similar", {"reference": "seg:99999999999999999999"}, "is no id"),
        ("find_similar", {"reference": "seg:1", "where": "segment = 99999999999999999999"}, "no database holds"),
        ("find_similar", {"reference": "seg:1", "where": "(" * 3000 + "channel = 1" + ")" * 3000}, "parentheses"),
        ("find_similar", {"reference": "emotion:bored"}, "there is no emotion 'bored'"),
        ("get_recording", {"recording": "call:99"}, "call:99 is not in"),
        ("get_recording", {"recording": "bela"}, "bela is not in"),
        ("get_recording", {"recording": "call:1", "limit": 1000}, "less than or equal to 200"),
        ("compare", {"a": "call:1", "b": "emotion:low"}, "is no clip"),
        ("compare", {"a": "call:1", "b": "call:99"}, "call:99 is not in"),
        ("describe_cluster", {"cluster": 0, "map": "none such"}, "none such"),
        ("describe_cluster", {"cluster": 999_999}, "map"),
    ],
    ids=lambda each: str(each)[:60],
)
async def test_what_goes_wrong_is_one_line(
    server: MCPServer[Any], tool: str, arguments: dict[str, Any], told: str
) -> None:
    async with connected(server) as client:
        sent = {name: SENT[str(value)]() if str(value) in SENT else value for name, value in arguments.items()}
        failed = await client.call_tool(tool, sent)
        assert failed.is_error
        assert told in said(failed)
        assert "Traceback" not in said(failed)
        if "validation error" not in said(failed):  # the SDK's own words on arguments have several lines
            assert "\n" not in said(failed)


async def test_stored_moments_compare_as_their_audio_does(server: MCPServer[Any], place: Path) -> None:
    async with connected(server) as client:
        by_id = (await client.call_tool("compare", {"a": "call:1", "b": "call:2"})).structured_content
        calls = place.parent / "calls"
        with e2vsearch.open(place, encoder="fake") as collection:
            heard = collection.compare(calls / "anna.wav", calls / "bela.wav")
        assert (by_id["encoder"], by_id["projection"]) == ("fake", "raw")
        assert by_id["score"] == pytest.approx(heard.score, abs=1e-4)
        assert by_id["best"] == pytest.approx(heard.best, abs=1e-4)
        assert by_id["a"]["emotion"] == heard.a.emotion
        assert by_id["a"]["speech_s"] == pytest.approx(heard.a.speech_s, abs=1e-3)
        one = (await client.call_tool("compare", {"a": "seg:1", "b": "seg:1"})).structured_content
        assert one["score"] == pytest.approx(1.0)
        assert one["a"]["segments"] == 1


async def test_a_long_recording_comes_in_parts(server: MCPServer[Any], place: Path) -> None:
    async with connected(server) as client:

        async def get(**arguments: Any) -> dict[str, Any]:
            return dict((await client.call_tool("get_recording", arguments)).structured_content)

        whole = await get(recording="call:2")
        with e2vsearch.open(place, encoder="fake") as collection:
            recording, segments = collection.recordings("call:2")[0], collection.segments("call:2")
        assert TypeAdapter(Recording).validate_python(whole["recording"]) == recording
        assert TypeAdapter(tuple[Segment, ...]).validate_python(whole["segments"]) == segments.rows
        assert whole["total"] == 3
        first, rest = await get(recording="call:2", limit=2), await get(recording="seg:4", skip=2)
        assert first["segments"] + rest["segments"] == whole["segments"]
        assert [first["total"], len(rest["segments"])] == [3, 1]


@pytest.mark.parametrize("number", ["999", "x", "99999999999999999999", "..%2F..%2Fcatalog.db", "1%00"])
async def test_a_clip_that_is_not_there(server: MCPServer[Any], number: str) -> None:
    async with connected(server) as client:
        with pytest.raises(MCPError) as told:
            await client.read_resource(f"e2vsearch://segment/{number}/audio.wav")
        assert "Traceback" not in str(told.value)
