"""Damaged recordings, and what is none: an error that says why, or what can still be heard of it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from made import DAMAGED, PLAYLIST, damaged, likeness, save, save_av, silence, sine, speech, wav_bytes

from e2vsearch import audio, errors


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_told_in_one_line(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = damaged(kind, tmp_path)
    error = getattr(errors, DAMAGED[kind][0])
    with pytest.raises(errors.AudioError) as caught:
        audio.read(path)
    assert type(caught.value) is error
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(error, match="the audio given as bytes"):
        audio.read(path.read_bytes())
    assert capfd.readouterr() == ("", "")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(errors.AudioNotFound, match=r"nothing\.wav"):
        audio.read(tmp_path / "nothing.wav")
    with pytest.raises(errors.AudioNotFound):
        audio.read(save(tmp_path / "a.wav", sine(1)) / "b.wav")
    with pytest.raises(errors.AudioNotFound):
        audio.read("a\0b.wav")
    with pytest.raises(errors.AudioNotAFile, match="folder"):
        audio.probe(tmp_path)
    with pytest.raises(errors.AudioInvalid, match="list"):
        audio.read([0.0, 1.0])  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(errors.AudioNotAFile):
        audio.read(tmp_path / "pipe.wav")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", sine(1))
    path.chmod(0)
    with pytest.raises(errors.AudioForbidden, match="permissions"):
        audio.read(path)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000])
def test_wav_written_into_a_pipe_is_whole(size: int) -> None:
    data = bytearray(wav_bytes(sine(2.0)))
    data[4:8] = data[40:44] = struct.pack("<I", size)
    assert audio.read(bytes(data)).shape == (1, 32_000)


def test_wav_that_claims_more_than_it_holds() -> None:
    data = bytearray(wav_bytes(sine(2.0)))
    data[40:44] = struct.pack("<I", 64_000 + 44)  # some writers count their header
    assert audio.read(bytes(data)).shape == (1, 32_000)
    data[40:44] = struct.pack("<I", 64_000 + 1000)
    with pytest.raises(errors.AudioTruncated, match="1,000 bytes"):
        audio.probe(bytes(data))


def test_garbage_after_the_end_is_not_heard(tmp_path: Path) -> None:
    garbage = np.random.default_rng(3).bytes(4000)
    assert audio.read(wav_bytes(sine(2.0)) + garbage).shape == (1, 32_000)
    ogg = save(tmp_path / "a.ogg", sine(2.0)).read_bytes()
    assert 31_500 < audio.read(ogg + garbage).shape[1] <= 32_000  # FFmpeg gives up the last Vorbis block with it
    mp3 = save(tmp_path / "a.mp3", sine(2.0)).read_bytes()
    assert audio.read(mp3 + b"TAG" + bytes(125)).shape == (1, 32_000)


def test_mp3_may_end_inside_a_frame(tmp_path: Path) -> None:
    data = save(tmp_path / "a.mp3", sine(4.0)).read_bytes()
    assert audio.read(data[:-20]).shape[1] > 62_000


def test_a_damaged_packet_becomes_silence_and_times_stay_true(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    signal = np.concatenate([sine(3.0), silence(4.0), sine(3.0, 900.0)])
    path = save_av(tmp_path / "a.m4a", signal, "aac")
    whole = audio.read(path)
    data = bytearray(path.read_bytes())
    body = data.index(b"mdat") + 4
    data[body + 6000 : body + 6040] = b"\xff" * 40
    heard = audio.read(bytes(data))
    assert heard.shape == whole.shape
    assert likeness(heard[0, 8 * 16_000 :], whole[0, 8 * 16_000 :]) > 0.99
    assert "silence stands in" in caplog.text or np.abs(heard - whole).max() > 0.01


def test_a_playlist_opens_nothing_else(tmp_path: Path) -> None:
    save_av(tmp_path / "secret.aac", sine(3.0), "aac")
    for name in ("list.m3u8", "list.mp3", "list.wav"):
        (tmp_path / name).write_bytes(PLAYLIST)
        with pytest.raises(errors.AudioUnreadable):
            audio.read(tmp_path / name)


@pytest.mark.parametrize("rate", [1, 4_000_000])
def test_a_senseless_rate_is_a_damaged_header(rate: int) -> None:
    data = bytearray(wav_bytes(sine(0.5)))
    data[24:28] = struct.pack("<I", rate)
    with pytest.raises(errors.AudioInvalid, match=f"{rate} Hz"):
        audio.probe(bytes(data))


FUZZED: list[tuple[str, dict[str, str] | None]] = [
    ("a.wav", {}),
    ("a.flac", {}),
    ("a.ogg", {}),
    ("a.mp3", {}),
    ("a.aiff", {}),
    ("a.m4a", None),
    ("a.webm", None),
]


@pytest.mark.parametrize(("name", "options"), FUZZED)
def test_no_damage_escapes_untranslated(
    tmp_path: Path, name: str, options: dict[str, str] | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if options is None:
        save_av(path, speech(2.0, rate_hz=48_000), "aac" if name == "a.m4a" else "libopus", 48_000)
    else:
        save(path, speech(2.0))
    data = path.read_bytes()
    rng = np.random.default_rng(5)
    outcomes = set()
    for trial in range(24):
        broken = bytearray(data[: rng.integers(1, len(data))] if trial % 2 else data)
        for at in rng.integers(0, len(broken), 8):
            broken[at] = rng.integers(256)
        try:
            heard = audio.read(bytes(broken))
            assert np.isfinite(heard).all()
            outcomes.add("heard")
        except errors.AudioError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is fine, this is about the error's text
            outcomes.add(error.reason)
    assert outcomes - {"heard"}
    assert capfd.readouterr().out == ""
    assert capfd.readouterr().err == ""
