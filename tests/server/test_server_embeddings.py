"""``/v1/embeddings`` speaks OpenAI's protocol, and its vectors are those of `Collection.embed`."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made import save, silence, speech, wav_bytes

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient
from gated_service import Gate, Made, client_of, entered
from service_client import LOCAL, post

from e2vsearch.collection import Collection
from e2vsearch.server import create_app
from e2vsearch.server.options import ServiceOptions

ONE = speech(2.0, seed=1)
TWO = np.concatenate([speech(1.7, seed=2, pitch_hz=210.0), silence(1.2), speech(2.9, seed=3)])
KEY = "a key that is long enough"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def uri(data: bytes, kind: str = "audio/wav") -> str:
    return f"data:{kind};base64,{encoded(data)}"


CLIP = uri(wav_bytes(ONE))


def vectors_of(answer: Any) -> list[list[float]]:
    assert [each["index"] for each in answer["data"]] == list(range(len(answer["data"])))
    return [each["embedding"] for each in answer["data"]]


def problem_of(response: Any, status: int, code: str) -> str:
    """The message of an error in OpenAI's shape, which must be one line."""
    assert response.status_code == status, response.text
    (error,) = response.json().values()
    kind = "invalid_request_error" if status < 500 else "server_error"
    assert (error["type"], error["param"], error["code"]) == (kind, None, code)
    assert error["message"]
    assert "\n" not in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


def test_vectors_are_the_collections(client: TestClient, collection: Collection) -> None:
    found = post(client, "/v1/embeddings", model="fake", input=[CLIP, uri(wav_bytes(TWO))], dimensions=16, user="me")
    assert (found["object"], found["model"]) == ("list", "fake")
    assert found["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    assert {each["object"] for each in found["data"]} == {"embedding"}
    (one,) = collection.embed(wav_bytes(ONE)).segments
    two = collection.embed(wav_bytes(TWO)).segments
    assert len(two) == 2
    mean = np.average([each.vector for each in two], axis=0, weights=[each.end_s - each.start_s for each in two])
    assert vectors_of(found) == [one.vector.tolist(), mean.astype(np.float32).tolist()]


def test_vectors_are_those_of_the_command(client: TestClient, run: Run, tmp_path: Path) -> None:
    save(tmp_path / "two.wav", TWO)
    ran = run("embed", tmp_path / "two.wav", "-o", tmp_path / "out", "--encoder", "fake")
    assert ran.code == 0, ran.err
    found = post(client, "/v1/embeddings", model="fake", input=uri((tmp_path / "two.wav").read_bytes()))
    assert vectors_of(found) == [np.load(tmp_path / "out" / "two.npy").tolist()]


def test_every_form_of_a_clip_is_the_same(client: TestClient) -> None:
    (wanted,) = vectors_of(post(client, "/v1/embeddings", model="fake", input=CLIP))
    data = encoded(wav_bytes(ONE))
    part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    forms = [CLIP, uri(wav_bytes(ONE), "audio/x-wav;rate=16000"), part, {"content": [part]}]
    forms.append({"type": "input_audio", "input_audio": {"data": CLIP}})
    assert vectors_of(post(client, "/v1/embeddings", model="fake", input=forms)) == [wanted] * len(forms)
    assert vectors_of(post(client, "/v1/embeddings", model="fake", input=part)) == [wanted]
    packed = post(client, "/v1/embeddings", model="fake", input=CLIP, encoding_format="base64")
    (text,) = vectors_of(packed)
    assert np.frombuffer(base64.b64decode(str(text)), "<f4").tolist() == wanted


def test_the_model_is_listed(client: TestClient) -> None:
    found = client.get("/v1/models").json()
    assert found == {
        "object": "list",
        "data": [{"id": "fake", "object": "model", "created": 0, "owned_by": "e2vsearch"}],
    }


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"input": "I have asked for this refund three times"}, 422, "text"),
        ({"input": ["https://example.org/a.wav"]}, 422, "url"),
        ({"input": "file:///etc/passwd"}, 422, "url"),
        ({"input": "gs://bucket/a.wav"}, 422, "url"),
        ({"input": "data:audio/wav,RIFF"}, 422, "invalid"),
        ({"input": "data:audio/wav;base64,%%%"}, 422, "invalid"),
        ({"input": "data:audio/wav;base64,é"}, 422, "invalid"),
        ({"input": "data:audio/wav;base64,"}, 422, "empty"),
        ({"input": uri(b"no sound at all, but some text")}, 415, "not-audio"),
        ({"input": uri(wav_bytes(ONE)[:20000])}, 422, "truncated"),
        ({"input": uri(wav_bytes(silence(2.0)))}, 400, "query"),
        ({"input": uri(wav_bytes(np.stack([ONE, ONE])))}, 400, "query"),
        ({"input": [1, 2, 3]}, 422, "invalid"),
        ({"input": [[1, 2], [3]]}, 422, "invalid"),
        ({"input": []}, 422, "invalid"),
        ({"input": [CLIP[:30]] * 101}, 422, "invalid"),
        ({"input": None}, 422, "invalid"),
        ({"input": {"type": "text", "text": "hello"}}, 422, "invalid"),
        ({"input": {"type": "input_audio", "input_audio": {}}}, 422, "invalid"),
        ({"input": {"content": []}}, 422, "invalid"),
        ({"input": CLIP, "model": "text-embedding-3-small"}, 404, "model_not_found"),
        ({"input": CLIP, "dimensions": 8}, 400, "dimensions"),
        ({"input": CLIP, "encoding_format": "hex"}, 422, "invalid"),
        ({"input": CLIP, "input_type": "query"}, 422, "invalid"),
        ({}, 422, "invalid"),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else None,
)
def test_what_is_no_clip_is_refused(client: TestClient, given: dict[str, Any], status: int, code: str) -> None:
    message = problem_of(client.post("/v1/embeddings", json={"model": "fake"} | given), status, code)
    assert CLIP[40:80] not in message
    if code in ("text", "url"):
        assert "data:audio/wav;base64," in message


def test_only_the_wrong_clip_is_named(client: TestClient) -> None:
    for wrong in (uri(wav_bytes(silence(2.0))), uri(b"nothing that sounds"), "words"):
        response = client.post("/v1/embeddings", json={"model": "fake", "input": [CLIP, wrong]})
        assert "input 1" in response.json()["error"]["message"]


def test_bodies_are_checked(client: TestClient) -> None:
    problem_of(client.post("/v1/embeddings", content=b"{}"), 415, "not-json")
    headers = {"Content-Type": "application/json"}
    problem_of(client.post("/v1/embeddings", content=b'{"model": ', headers=headers), 422, "invalid")
    problem_of(client.post("/v1/embeddings", content=b"[" * 5000, headers=headers), 422, "invalid")
    assert client.get("/v1/embeddings").status_code == 405
    assert problem_of(client.get("/v1/nothing"), 404, "no-route")
    assert set(client.get("/nothing").json()["error"]) == {"reason", "message"}


@pytest.fixture
def limited(collection: Collection) -> Iterator[TestClient]:
    options = ServiceOptions(api_key=KEY, max_upload_mb=0.1, max_audio_s=3)
    with TestClient(create_app(collection, options), base_url=LOCAL) as client:
        yield client


def test_limits_are_those_of_uploads(limited: TestClient) -> None:
    key = {"Authorization": f"Bearer {KEY}"}
    body = {"model": "fake", "input": CLIP}
    problem_of(limited.post("/v1/embeddings", json=body), 401, "key")
    problem_of(limited.get("/v1/models"), 401, "key")
    assert limited.post("/v1/embeddings", json=body, headers=key).status_code == 200
    problem_of(limited.post("/v1/embeddings", json=body | {"input": [CLIP] * 3}, headers=key), 413, "too-large")
    long = uri(wav_bytes(speech(4.0), subtype="ULAW"))
    problem_of(limited.post("/v1/embeddings", json=body | {"input": long}, headers=key), 413, "too-long")


@pytest.mark.slow
async def test_a_full_service_refuses(served: Made, gate: Gate) -> None:
    app = served(queue=0, threads=1)
    async with client_of(app) as client:
        body = {"model": "fake", "input": CLIP}
        first = asyncio.create_task(client.post("/v1/embeddings", json=body))
        await entered(gate)
        refused = await client.post("/v1/embeddings", json=body)
        assert refused.headers["Retry-After"]
        problem_of(refused, 503, "overloaded")
        gate.open.set()
        assert (await first).status_code == 200


@pytest.mark.slow
async def test_openai_s_own_client_reads_it(served: Made, gate: Gate, collection: Collection) -> None:
    """It asks for base64 by itself, and unpacks it."""
    openai = pytest.importorskip("openai", reason="openai is not installed")
    gate.open.set()
    async with (
        client_of(served(api_key=KEY)) as client,
        openai.AsyncOpenAI(api_key=KEY, base_url=f"{LOCAL}/v1", http_client=client, max_retries=0) as asked,
    ):
        assert [each.id async for each in asked.models.list()] == ["fake"]
        found = await asked.embeddings.create(model="fake", input=[CLIP])
        (one,) = collection.embed(wav_bytes(ONE)).segments
        assert found.data[0].embedding == one.vector.tolist()
        with pytest.raises(openai.NotFoundError) as raised:
            await asked.embeddings.create(model="other", input=[CLIP])
        assert raised.value.code == "model_not_found"
        with pytest.raises(openai.UnprocessableEntityError, match="takes speech only"):
            await asked.embeddings.create(model="fake", input="words")
