"""Recordings in a bucket are played and cut as files are, by ranges, through a cache that is bounded and private."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made import save, save_av, speech, wav_bytes
from opened_source import opened

from e2vsearch import audio, retention
from e2vsearch.audio import RangedAudio
from e2vsearch.collection import Collection
from e2vsearch.errors import AudioNotFound, AudioTruncated, AudioUnreachable, AudioUnreadable, SettingsError
from e2vsearch.playback import BLOCK_BYTES
from e2vsearch.remote.block_cache import BlockCache
from e2vsearch.remote.stores import Stores
from e2vsearch.remote.uris import Remote

# --- decoders that read by ranges


def ranged(content: bytes, suffix: str, asked: list[tuple[int, int]] | None = None) -> RangedAudio:
    def read(position: int, count: int) -> bytes:
        if asked is not None:
            asked.append((position, count))
        return content[position : position + min(count, 10_000)]  # fewer than were asked for

    return RangedAudio(f"s3://bucket/a{suffix}", len(content), suffix, read)


@pytest.mark.parametrize(
    ("kind", "codec"), [("wav", None), ("flac", None), ("mp3", None), ("ogg", "libopus"), ("m4a", "aac")]
)
def test_a_decoder_reads_by_ranges_what_it_reads_of_a_file(kind: str, codec: str | None, tmp_path: Path) -> None:
    path, signal = tmp_path / f"a.{kind}", speech(4.0)
    save(path, signal) if codec is None else save_av(path, signal, codec)
    there = ranged(path.read_bytes(), path.suffix)
    assert audio.probe(there) == audio.probe(path)
    np.testing.assert_array_equal(audio.read(there), audio.read(path))
    np.testing.assert_array_equal(audio.cut(there, 1.5, 2.0), audio.cut(path, 1.5, 2.0))


def test_a_cut_reads_little_more_than_the_cut() -> None:
    asked: list[tuple[int, int]] = []
    there = ranged(wav_bytes(np.resize(speech(10.0), 16_000 * 600)), ".wav", asked)
    assert audio.cut(there, 300.0, 303.0).shape == (1, 48_000)
    assert sum(min(count, 10_000) for _, count in asked) < 300_000  # of 19 MB


@pytest.mark.slow
def test_what_goes_wrong_while_it_is_read_is_said_and_ends_no_other(tmp_path: Path) -> None:
    content = wav_bytes(speech(8.0))

    def read(position: int, count: int) -> bytes:
        if position > 100_000:
            raise AudioUnreachable("s3://bucket/a.wav: its server cannot be reached - try again later")
        return content[position : position + count]

    with pytest.raises(AudioUnreachable, match="cannot be reached"):
        audio.read(RangedAudio("s3://bucket/a.wav", len(content), ".wav", read))
    assert audio.read(ranged(content, ".wav")).shape == (1, 16_000 * 8)


def test_bytes_that_end_too_soon_are_a_truncated_recording() -> None:
    content = wav_bytes(speech(8.0))
    with pytest.raises(AudioTruncated):
        audio.read(
            RangedAudio("s3://b/a.wav", len(content), ".wav", lambda at, n: content[: len(content) // 2][at : at + n])
        )


# --- the cache


def test_a_cache_is_bounded_and_drops_what_was_read_longest_ago(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path / "cache", 64_000)
    cache.open("a")
    for number in range(100):
        cache.write("a", f"{number:x}", bytes([number]) * 1_000)
        assert cache.read("a", "0") == bytes(1_000), number  # read all the time
        assert cache.held("a") <= 64_000
    assert cache.held("a") > 48_000
    assert cache.read("a", "1") is None
    assert cache.read("a", "63") == bytes([99]) * 1_000
    modes = {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert modes == {"0o600"}
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "cache", tmp_path / "cache" / "a")} == {"0o700"}


def test_a_damaged_block_is_none(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 64_000)
    cache.open("a")
    cache.write("a", "0", b"sound" * 100)
    (tmp_path / "a" / "0").write_bytes(b"noise" * 100)
    assert cache.read("a", "0") is None
    assert list((tmp_path / "a").iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for cache in (BlockCache(tmp_path / "file", 64_000), BlockCache(tmp_path / "none", 0)):
        cache.open("a")
        cache.write("a", "0", b"sound")
        assert (cache.read("a", "0"), cache.owners(), cache.held("a")) == (None, [], 0)
    assert not (tmp_path / "none").exists()


def test_threads_that_write_and_erase_read_whole_blocks_or_none(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 64_000)
    wrong: list[object] = []

    def work(owner: str) -> None:
        for number in range(200):
            if number % 20 == 0:
                cache.open(owner)
            cache.write(owner, f"{number % 7}", owner.encode() * 2_000)
            found = cache.read(owner, f"{number % 7}")
            if found not in (None, owner.encode() * 2_000):
                wrong.append(found)
            if number % 50 == 49:
                cache.keep({"a", "b"})

    threads = [threading.Thread(target=work, args=(owner,)) for owner in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    cache.keep({"a"})
    cache.write("b", "0", b"sound")  # was opened before it was erased
    assert cache.owners() == ["a"]


# --- a collection whose recordings lie in a bucket


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions that are read of the bucket."""
    positions: list[int] = []
    read = Stores.read

    def counted(self: Stores, source: Remote, position: int, count: int) -> bytes:
        positions.append(position)
        return read(self, source, position, count)

    monkeypatch.setattr(Stores, "read", counted)
    return positions


@pytest.fixture
def stored(s3: Any, calls: Path, tmp_path: Path) -> Iterator[Collection]:
    """Two calls of a bucket."""
    with opened(tmp_path / "index") as collection:
        assert collection.ingest("s3://bucket/calls/a.wav", "s3://bucket/calls/sub/b c.wav").stored == 2
        yield collection


@pytest.mark.slow
def test_a_segment_in_a_bucket_is_cut_as_one_of_a_file(stored: Collection, calls: Path, asked: list[int]) -> None:
    (recording,) = stored.recordings("s3://bucket/calls/sub/b c.wav")
    segment = stored.segments(recording.id)[0]
    heard = stored.clip(segment.id)
    np.testing.assert_array_equal(
        heard, audio.cut(calls / "sub" / "b c.wav", segment.start_s, segment.end_s, channel=0)
    )
    np.testing.assert_array_equal(
        stored.clip(f"{recording.id}@0.5-1.5"), audio.cut(calls / "sub" / "b c.wav", 0.5, 1.5)
    )
    assert asked == [0]  # 80 kB, once


def long_call(seed: int) -> bytes:
    """30 s in 12 MB."""
    samples = np.resize(speech(5.0, seed=seed), 48_000 * 30)
    return wav_bytes(np.stack([samples, 0 * samples]), 48_000, "FLOAT")


@pytest.mark.slow
def test_of_a_long_call_a_part_is_read_and_kept(s3: Any, tmp_path: Path, asked: list[int]) -> None:
    s3.pipe("bucket/long.wav", long_call(seed=0))
    with opened(tmp_path / "index") as collection:
        assert collection.ingest("s3://bucket/long.wav").stored == 1
        first = collection.clip("call:1@20-22")
        assert 1 <= len(asked) <= 3
        assert 0 in asked
        asked.clear()
        np.testing.assert_array_equal(collection.clip("call:1@20-22"), first)
        assert asked == []
        folder = collection.playback.cache.folder
        assert {path.stat().st_mode & 0o777 for path in folder.rglob("*")} == {0o700, 0o600}
        assert not folder.is_relative_to(tmp_path / "index")
        s3.pipe("bucket/long.wav", long_call(seed=5))  # it is replaced
        assert not np.array_equal(collection.clip("call:1@20-22"), first)
        assert asked
        assert collection.about("call:1")["cached_audio_bytes"] > BLOCK_BYTES


@pytest.mark.slow
def test_what_is_forgotten_leaves_the_cache(stored: Collection, tmp_path: Path, run: Run) -> None:
    first, second = stored.recordings()
    cache = stored.playback.cache
    for each in (first, second):
        stored.clip(f"{each.id}@0-1")
    assert cache.owners() == sorted([first.content_sha256, second.content_sha256])
    stored.forget(first.id)
    assert cache.owners() == [second.content_sha256]
    stored.export(tmp_path / "exported")
    assert not [path for path in (tmp_path / "exported").rglob("*") if path.name in cache.owners()]
    stored.remove(second.id)  # traces stay, and are said to
    assert not stored.playback.verify().ok
    checked = run("db", "verify", "--index", tmp_path / "index")
    assert checked.code == 1
    assert "cached audio" in checked.out
    retention.expire(stored.catalog, stored.index, stored.playback)  # as a service does each day, wherever it runs
    assert cache.owners() == []
    assert stored.playback.verify().ok


@pytest.mark.slow
def test_a_cache_that_cannot_be_erased_is_said(stored: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    stored.clip("call:1@0-1")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("shutil.rmtree", refuse)
    stored.catalog.remove([1])
    with pytest.raises(SettingsError, match="cannot be written"):
        stored.playback.clean()


@pytest.mark.slow
def test_the_clip_command_and_what_is_gone(stored: Collection, s3: Any, run: Run, tmp_path: Path) -> None:
    done = run("clip", "seg:1", "-o", tmp_path / "one.wav", "--index", tmp_path / "index")
    assert done.code == 0, done.err
    assert audio.probe(tmp_path / "one.wav").sampling_rate_hz == 16_000
    s3.rm("bucket/calls/a.wav")
    s3.rm("bucket/calls/sub/b c.wav")
    with pytest.raises(AudioNotFound, match="not found"):
        stored.clip("seg:1")
    gone = run("clip", "seg:1", "-o", tmp_path / "two.wav", "--index", tmp_path / "index")
    assert gone.code == 2
    assert gone.err.count("\n") == 1


@pytest.mark.slow
def test_the_service_plays_a_bucket(stored: Collection, calls: Path, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
    pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
    pytest.importorskip("httpx", reason="the test client needs httpx")
    from fastapi.testclient import TestClient

    from e2vsearch.server import create_app
    from e2vsearch.server.options import ServiceOptions

    def client(*roots: str) -> TestClient:
        return TestClient(create_app(stored, ServiceOptions(roots=roots)), base_url="http://127.0.0.1:8080")

    (recording,) = stored.recordings("s3://bucket/calls/a.wav")
    segment = stored.segments(recording.id)[0]
    paths = [f"/{kind}/{number}/{what}" for kind, number in (("segments", segment.id), ("recordings", recording.id))
             for what in ("audio", "peaks")]  # fmt: skip
    for roots in ((), ("s3://bucket/calls",), (str(calls), "s3://bucket/")):
        with client(*roots) as service:
            whole = service.get(f"/recordings/{recording.id}/audio")
            assert whole.content == audio.encode(audio.read(calls / "a.wav"))
            part = service.get(f"/recordings/{recording.id}/audio", headers={"Range": "bytes=1000-2999"})
            assert (part.status_code, part.content) == (206, whole.content[1000:3000])
            assert service.get(f"/segments/{segment.id}/audio").content == audio.encode(stored.clip(segment.id))
            assert service.head(f"/segments/{segment.id}/audio").status_code == 200
            assert len(service.get(f"/recordings/{recording.id}/peaks", params={"n": 20}).json()["peaks"][0]) == 20
            assert [service.get(path).status_code for path in paths] == [200] * 4
    for roots in ((str(calls),), ("s3://bucket/cal",), ("s3://bucket/calls/sub/",)):
        with client(*roots) as service:
            assert {(service.get(path).status_code, service.get(path).json()["error"]["reason"]) for path in paths} == {
                (403, "path-forbidden")
            }
    with client() as service:
        monkeypatch.setattr(stored.playback, "_stores", Stores(tries=1))
        s3.rm("bucket/calls/a.wav")
        assert {service.get(path).status_code for path in paths} == {410}
        for path in paths:
            assert "5ecret" not in service.get(path).text

        def down(*_: object) -> None:
            raise AudioUnreachable("s3://bucket/calls/a.wav: its server does not answer in time - try again later")

        monkeypatch.setattr(Stores, "state", down)
        assert {service.get(path).status_code for path in paths} == {503}


def test_a_server_that_gives_whole_recordings_only_is_refused() -> None:
    class Whole:
        def cat_file(self, *_: object, **__: object) -> bytes:
            return bytes(100)

    pytest.importorskip("tenacity")
    stores = Stores()
    stores._opened["https"] = Whole()
    with pytest.raises(AudioUnreadable, match="sends no part"):
        stores.read(Remote("https://host/a.wav", "https://host/a.wav"), 10, 20)
