"""How much may be sent to a service, and how long audio may be."""

from __future__ import annotations

import os
import struct
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from made import save_av, silence, speech, wav_bytes

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from gated_service import CLIP, Gate, Made, client_of, leftovers, send_clip

from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import AudioTooLong
from e2vsearch.pipeline import embed_audio
from e2vsearch.server import uploads

# --- how much may be sent


async def test_an_upload_that_says_it_is_too_large(served: Made) -> None:
    app = served(max_upload_mb=0.05)
    async with client_of(app) as client:
        response = await send_clip(client)
    assert (response.status_code, response.json()["error"]["reason"]) == (413, "too-large")
    assert "0.05 MB" in response.json()["error"]["message"]


async def test_an_upload_without_a_length_is_stopped_on_the_way(served: Made) -> None:
    app = served(max_upload_mb=1)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        while sent < 100_000_000:
            sent += 65_536
            yield bytes(65_536)

    async with client_of(app) as client:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        response = await client.post("/query/upload", content=endless(), headers=headers)
    assert response.status_code == 413
    assert sent < 1_200_000
    assert leftovers(app) == []


async def test_a_body_that_is_no_upload_is_smaller_still(served: Made) -> None:
    async with client_of(served()) as client:
        response = await client.post("/query", content=b" " * 4_000_001, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["reason"]) == (413, "too-large")


PART = 'Content-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
FILE = PART.replace('name="{}"', 'name="{}"; filename="a"')


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("application/json", "{}", 415, "not-a-form"),
        ("multipart/form-data", "", 415, "not-a-form"),
        ("multipart/form-data; boundary=b", "", 400, "bad-form"),
        ("multipart/form-data; boundary=b", "nonsense", 400, "bad-form"),
        ("multipart/form-data; boundary=b", "--b\r\n" + FILE.format("file", "x"), 400, "bad-form"),
        ("multipart/form-data; boundary=b", "--b\r\n" + PART.format("k", "5") + "--b--\r\n", 422, "invalid"),
        ("multipart/form-data; boundary=b", 2 * ("--b\r\n" + FILE.format("file", "x")) + "--b--\r\n", 400, "bad-form"),
        ("multipart/form-data; boundary=b", "--b\r\n" + PART.format("file", "x") + "--b--\r\n", 422, "invalid"),
        ("multipart/form-data; boundary=b", 2 * ("--b\r\n" + PART.format("k", "1")) + "--b--\r\n", 422, "invalid"),
        ("multipart/form-data; boundary=b", "--b\r\n" + PART.format("k", "1" * 20_000) + "--b--\r\n", 400, "bad-form"),
        (
            "multipart/form-data; boundary=b",
            "".join("--b\r\n" + PART.format(f"f{number}", "x") for number in range(20)) + "--b--\r\n",
            400,
            "bad-form",
        ),
        (
            "multipart/form-data; boundary=b",
            "--b\r\n" + FILE.format("file", "x") + "--b\r\n" + PART.format("kk", "1") + "--b--\r\n",
            422,
            "invalid",
        ),
        (
            "multipart/form-data; boundary=b",
            "--b\r\n" + FILE.format("file", "x") + "--b\r\n" + PART.format("k", "many") + "--b--\r\n",
            422,
            "invalid",
        ),
        ("multipart/form-data; boundary=b", "--b\r\n" + FILE.format("file", "") + "--b--\r\n", 422, "empty"),
        ("multipart/form-data; boundary=b", "--b\r\n" + FILE.format("file", "words") + "--b--\r\n", 415, "not-audio"),
    ],
)
async def test_a_form_that_is_none(served: Made, kind: str, body: str, status: int, reason: str) -> None:
    app = served()
    async with client_of(app) as client:
        response = await client.post("/query/upload", content=body.encode(), headers={"Content-Type": kind})
    assert (response.status_code, response.json()["error"]["reason"]) == (status, reason), response.text
    assert leftovers(app) == []


async def test_messages_name_an_upload_as_its_client_does(served: Made) -> None:
    app = served()
    async with client_of(app) as client:
        response = await send_clip(client, CLIP[:2000], "C:\\calls\\my cut.wav")
    message = response.json()["error"]["message"]
    assert (response.status_code, response.json()["error"]["reason"]) == (422, "truncated")
    assert message.startswith("my cut.wav ")
    assert "uploads" not in message


def test_an_upload_folder_is_private_and_goes_away() -> None:
    from e2vsearch.server.uploads import Uploads

    uploads = Uploads()
    folder = uploads.folder()
    assert folder.stat().st_mode & 0o077 == 0
    (folder / "left").write_bytes(b"x")
    uploads.close()
    assert not folder.exists()


# --- how long audio may be


def flac_bomb(seconds: int, stated: int) -> bytes:
    """Silence in FLAC: a frame of 65,535 samples is 15 bytes (RFC 9639: a constant subframe)."""

    def crc(data: bytes, width: int, polynomial: int) -> int:
        value = 0
        for byte in data:
            value ^= byte << (width - 8)
            for _ in range(8):
                value = (value << 1) ^ (polynomial if value >> (width - 1) else 0)
                value &= (1 << width) - 1
        return value

    def utf8(number: int) -> bytes:
        return chr(number).encode()

    size = 65_535
    info = struct.pack(">HH", size, size) + bytes(6)
    info += ((8_000 << 44) | (0 << 41) | (15 << 36) | stated).to_bytes(8, "big") + bytes(16)
    frames = []
    for number in range(seconds * 8_000 // size):
        # fixed block size in 16 bits, 8 kHz, mono, 16 bit; the number of the frame; size - 1
        head = b"\xff\xf8\x74\x08" + utf8(number) + struct.pack(">H", size - 1)
        head += bytes([crc(head, 8, 0x07)])
        frame = head + b"\x00\x00\x00"
        frames.append(frame + struct.pack(">H", crc(frame, 16, 0x8005)))
    return b"fLaC\x80\x00\x00\x22" + info + b"".join(frames)


@pytest.mark.slow
@pytest.mark.parametrize("stated", ["nothing", "little", "the truth"])
async def test_a_small_file_of_many_hours_is_stopped(served: Made, gate: Gate, stated: str) -> None:
    gate.open.set()
    hours = 40
    bomb = flac_bomb(3600 * hours, {"nothing": 0, "little": 16_000, "the truth": 3600 * hours * 8_000}[stated])
    assert len(bomb) < 400_000
    app = served(max_audio_s=60)
    started = time.process_time()  # not by the clock: others may be at work here
    async with client_of(app) as client:
        response = await send_clip(client, bomb, "bomb.flac")
    if stated == "little":  # the decoder stops where the header says, after two seconds of silence
        assert (response.status_code, response.json()["error"]["reason"]) == (400, "query")
    else:
        assert (response.status_code, response.json()["error"]["reason"]) == (413, "too-long")
    assert time.process_time() - started < 5  # hours are decoded at some 1,000 times real time: 40 would take 140 s
    assert leftovers(app) == []


async def test_a_stream_without_a_length_is_stopped(served: Made, tmp_path: Path) -> None:
    long = save_av(tmp_path / "long.webm", silence(120.0), "libopus", options={"live": "1"}).read_bytes()
    async with client_of(served(max_audio_s=30)) as client:
        response = await send_clip(client, long, "long.webm")
    assert (response.status_code, response.json()["error"]["reason"]) == (413, "too-long")


async def test_a_recording_as_long_as_allowed_is_heard(served: Made, gate: Gate) -> None:
    gate.open.set()
    app = served(max_audio_s=3)
    async with client_of(app) as client:
        assert (await send_clip(client, wav_bytes(speech(3.0)))).status_code == 200
        response = await send_clip(client, wav_bytes(speech(3.1)), "long.wav")
    assert (response.status_code, response.json()["error"]["reason"]) == (413, "too-long")


def test_hearing_counts_what_a_header_does_not_say() -> None:
    with pytest.raises(AudioTooLong, match="goes on after"):
        embed_audio(flac_bomb(600, 0), FakeEncoder(), longest_s=30)


async def test_more_channels_than_calls_have(served: Made) -> None:
    app = served()
    async with client_of(app) as client:
        response = await send_clip(client, wav_bytes(np.zeros((9, 16_000), np.float32)))
    assert (response.status_code, response.json()["error"]["reason"]) == (422, "invalid-samples")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="nobody else has folders here")
def test_only_own_folders_and_files_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filelock before 3.20.3 empties the file that a link in a lock's place names (CVE-2025-68146)."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    victim = tmp_path / "catalog.db"
    victim.write_bytes(b"the truth")

    def planted(name: str) -> Path:
        folder = tmp_path / f"e2vsearch-uploads-{name}"
        folder.mkdir()
        (folder / "call.wav").write_bytes(b"a voice")
        return folder

    (planted("link") / ".lock").symlink_to(victim)
    os.mkfifo(planted("pipe") / ".lock")
    planted("none")
    (planted("own") / ".lock").touch()
    (planted("other") / ".lock").touch()
    (tmp_path / "e2vsearch-uploads-linked").symlink_to(tmp_path / "e2vsearch-uploads-other")
    others = os.lstat(tmp_path / "e2vsearch-uploads-other").st_ino
    lstat = Path.lstat

    def owned(path: Path) -> os.stat_result:
        found = lstat(path)
        return os.stat_result((*found[:4], found.st_uid + 1, *found[5:10])) if found.st_ino == others else found

    locked: list[str] = []

    def lock(path: Path, timeout: float = -1, *, thread_local: bool = True) -> FileLock:
        locked.append(path.parent.name)
        return FileLock(path, timeout=timeout, thread_local=thread_local)

    monkeypatch.setattr(Path, "lstat", owned)
    monkeypatch.setattr(uploads, "FileLock", lock)
    opened = uploads.Uploads()
    opened.open()
    left = {path.name.removeprefix("e2vsearch-uploads-") for path in tmp_path.iterdir()} - {opened.folder().name[18:]}
    opened.close()
    assert left == {"catalog.db", "link", "pipe", "none", "other", "linked"}
    assert locked[:1] == ["e2vsearch-uploads-own"]
    assert len(locked) == 2  # and its own
    assert victim.read_bytes() == b"the truth"
