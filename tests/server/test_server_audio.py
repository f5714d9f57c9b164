"""The service's sound: clips, ranges of whole recordings, peaks, and files that are gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import speech, wav_bytes

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient
from service_client import LOCAL, error_of

from e2vsearch import audio
from e2vsearch.collection import Collection
from e2vsearch.server import create_app
from e2vsearch.server.options import ServiceOptions
from e2vsearch.server.wav import RangeNotSatisfiable, VirtualWav, parse_range


def test_a_segments_sound_is_its_clip(client: TestClient, collection: Collection) -> None:
    response = client.get("/segments/seg:5/audio")
    assert response.headers["content-type"] == "audio/wav"
    assert response.headers["cache-control"].startswith("private")
    assert response.content == audio.encode(collection.clip("seg:5"))
    wider = client.get("/segments/5/audio", params={"context_s": 0.5}).content
    assert len(wider) == len(response.content) + 2 * 16_000
    again = client.get("/segments/5/audio", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    error_of(client.get("/segments/5/audio", params={"context_s": 31}), 422, "invalid")


@pytest.fixture(scope="module")
def whole(collection: Collection) -> bytes:
    return audio.encode(audio.read(collection.recordings("call:3")[0].uri))


def test_a_whole_recordings_sound(client: TestClient, whole: bytes) -> None:
    assert client.get("/recordings/call:3/audio").content == whole
    head = client.head("/recordings/call:3/audio")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(whole)
    assert head.headers["accept-ranges"] == "bytes"


def test_a_stretch_of_a_recording(client: TestClient, whole: bytes) -> None:
    second = 2 * 16_000 * client.get("/recordings/3").json()["recording"]["channels"]
    part = client.get("/recordings/call:3/audio", params={"start_s": 0.25, "end_s": 1})
    assert part.content[44:] == whole[44 + second // 4 : 44 + second]
    assert client.get("/recordings/call:3/audio", params={"start_s": 0.25}).content[44:] == whole[44 + second // 4 :]
    tags = {part.headers["etag"], client.head("/recordings/call:3/audio").headers["etag"]}
    assert len(tags) == 2
    after = client.get("/recordings/call:3/audio", params={"start_s": 9_999, "end_s": 10_000})
    assert (after.status_code, len(after.content)) == (200, 44)
    assert client.get("/recordings/call:3/audio", params={"end_s": 1e308}).content == whole
    for wrong in ({"start_s": -1}, {"end_s": "inf"}, {"start_s": "nan"}):
        error_of(client.get("/recordings/call:3/audio", params=wrong), 422, "invalid")


@pytest.mark.parametrize(
    "wanted", ["0-0", "0-43", "40-60", "44-44", "45-47", "1001-3000", "50000-", "-1", "-1000", "7-999999999"]
)
def test_any_range_of_it(client: TestClient, whole: bytes, wanted: str) -> None:
    response = client.get("/recordings/call:3/audio", headers={"Range": f"bytes={wanted}"})
    first, end = parse_range(f"bytes={wanted}", len(whole)) or (0, 0)
    assert response.status_code == 206
    assert response.headers["content-range"] == f"bytes {first}-{end - 1}/{len(whole)}"
    assert response.content == whole[first:end]


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=0-1,5-9", "lines=1-2", "bytes=-", "bytes=a-b", ""])
def test_a_range_that_is_none_is_passed_over(client: TestClient, whole: bytes, header: str) -> None:
    response = client.get("/recordings/call:3/audio", headers={"Range": header})
    assert (response.status_code, response.content) == (200, whole)


def test_a_range_after_the_end(client: TestClient, whole: bytes) -> None:
    response = client.get("/recordings/call:3/audio", headers={"Range": f"bytes={len(whole)}-"})
    error_of(response, 416, "range")
    assert response.headers["content-range"] == f"bytes */{len(whole)}"
    with pytest.raises(RangeNotSatisfiable):
        parse_range("bytes=-0", 10)


def test_a_range_of_an_older_file_gives_all_of_the_new_one(client: TestClient, whole: bytes) -> None:
    tag = client.head("/recordings/call:3/audio").headers["etag"]
    ranged = {"Range": "bytes=0-9"}
    assert client.get("/recordings/call:3/audio", headers={**ranged, "If-Range": tag}).status_code == 206
    assert client.get("/recordings/call:3/audio", headers={**ranged, "If-Range": '"other"'}).content == whole


def test_long_sound_comes_in_bounded_pieces(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(np.resize(speech(10.0), 16_000 * 600)))
    wav = VirtualWav(str(path), 1, None, 0, 16_000 * 600)
    pieces = list(wav.pieces(0, wav.size))
    assert max(len(piece) for piece in pieces) <= 120 * 32_000
    assert b"".join(pieces) == audio.encode(audio.read(path))


def test_a_file_that_became_shorter_keeps_its_promised_size(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    path.write_bytes(wav_bytes(speech(1.0)))
    wav = VirtualWav(str(path), 1, None, 0, 32_000)
    data = b"".join(wav.pieces(0, wav.size))
    assert len(data) == wav.size
    assert not any(data[-30_000:])


def test_peaks_draw_the_sound(client: TestClient, collection: Collection) -> None:
    drawn = client.get("/recordings/call:3/peaks", params={"n": 50}).json()
    assert (drawn["channels"], len(drawn["peaks"]), len(drawn["peaks"][0])) == (1, 1, 50)
    expected = audio.peaks(audio.read(collection.recordings("call:3")[0].uri), 50)
    assert np.median(np.abs(np.array(drawn["peaks"]) - expected)) < 0.01
    one = client.get("/segments/seg:1/peaks").json()
    assert len(one["peaks"]) == 200
    assert 0 < max(one["peaks"]) <= 1


def test_a_file_that_is_gone_is_410(client: TestClient, collection: Collection, tmp_path: Path) -> None:
    uri = Path(collection.recordings("call:4")[0].uri)
    aside = uri.rename(tmp_path / uri.name)
    try:
        for path in ("/recordings/4/audio", "/recordings/4/peaks", "/segments/12/audio", "/segments/12/peaks"):
            assert "does not exist" in error_of(client.get(path), 410, "missing")
        assert client.head("/recordings/4/audio").status_code == 410
    finally:
        aside.rename(uri)
    assert client.get("/segments/12/audio").status_code == 200


@pytest.mark.slow
def test_a_stored_file_outside_the_roots_is_not_played(
    client: TestClient, collection: Collection, tmp_path: Path
) -> None:
    """An import may name any file of this machine."""
    outside = tmp_path / "secret.wav"
    outside.write_bytes(wav_bytes(speech(1.0)))
    (recording,) = collection.recordings("call:4")
    before = recording.uri
    paths = ("/recordings/4/audio", "/recordings/4/peaks", "/segments/12/audio", "/segments/12/peaks")
    free = TestClient(create_app(collection, ServiceOptions()), base_url=LOCAL)
    try:
        for uri in (str(outside), outside.as_uri(), f"{Path(before).parent}/../../{outside}"):
            collection.catalog.relocate(4, uri, "secret", recording.mtime_ns)
            for path in paths:
                assert "--root" in error_of(client.get(path), 403, "path-forbidden")
            assert client.head("/recordings/4/audio").status_code == 403
        collection.catalog.relocate(4, str(outside), "secret", recording.mtime_ns)
        with free:  # without a root, what is stored is played wherever it lies
            assert free.get("/recordings/4/audio").status_code == 200
    finally:
        collection.catalog.relocate(4, before, recording.name, recording.mtime_ns)
    assert client.get("/segments/12/audio").status_code == 200
