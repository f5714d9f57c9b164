"""Seeds in every format that can be written here, and copies of them that are damaged at random, the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from _postgres import from_tests

SNDFILE = {
    "pcm16.wav": "PCM_16", "pcm8.wav": "PCM_U8", "pcm24.wav": "PCM_24", "float.wav": "FLOAT", "double.wav": "DOUBLE",
    "ulaw.wav": "ULAW", "alaw.wav": "ALAW", "ima.wav": "IMA_ADPCM", "ms.wav": "MS_ADPCM", "gsm.wav": "GSM610",
    "a.flac": "PCM_16", "b.flac": "PCM_24", "vorbis.ogg": "VORBIS", "a.mp3": "MPEG_LAYER_III", "a.aiff": "PCM_16",
    "ulaw.au": "ULAW", "pcm.caf": "PCM_16", "alac.caf": "ALAC_16", "a.w64": "PCM_16", "a.rf64": "PCM_16",
}  # fmt: skip
FFMPEG = {
    "aac.m4a": "aac", "alac.m4a": "alac", "aac.mp4": "aac", "fragments.mp4": "aac", "pcm.mov": "pcm_s16le",
    "ima.mov": "adpcm_ima_qt", "opus.webm": "libopus", "vorbis.mka": "libvorbis", "flac.mka": "flac", "aac.mka": "aac",
    "opus.ogg": "libopus", "opus.opus": "libopus", "a.wv": "wavpack", "a.aac": "aac", "nb.amr": "libopencore_amrnb",
    "nb.3gp": "libopencore_amrnb", "g722.wav": "g722", "g726.wav": "g726", "a.ac3": "ac3", "a.eac3": "eac3",
    "a.mp2": "mp2", "mp2.mpg": "mp2", "aac.ts": "aac", "mp3.avi": "libmp3lame", "pcm.avi": "pcm_s16le",
    "mp3.flv": "libmp3lame", "a.tta": "tta", "a.wma": "wmav2", "a.rm": "real_144", "a.voc": "pcm_s16le",
}  # fmt: skip
MONO = ("g722", "g726", "libopencore_amrnb", "real_144")
RATES_HZ = {"libopencore_amrnb": 8_000, "real_144": 8_000, "wmav2": 44_100, "libmp3lame": 44_100} | dict.fromkeys(
    ("libopus", "ac3", "eac3", "mp2"), 48_000
)
SECONDS = 2.0
EXTREMES = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"\x80\x00\x00\x00", b"\xff\xff\xff\x7f")


def seeds(folder: Path) -> dict[str, bytes]:
    """Return sound recordings in every format that the libraries here can write, by name."""
    made = from_tests("made")
    folder.mkdir()
    signal = np.stack([made.speech(SECONDS), made.speech(SECONDS, seed=1, pitch_hz=180.0)])
    found: dict[str, bytes] = {}
    for name, subtype in SNDFILE.items():
        with suppress(Exception):  # what this libsndfile cannot write
            kind = "RF64" if name.endswith(".rf64") else None
            each = signal[:1] if subtype == "GSM610" else signal
            made.save(folder / name, each, subtype=subtype, format=kind)
            found[name] = (folder / name).read_bytes()
    for name, codec in FFMPEG.items():
        rate_hz = RATES_HZ.get(codec, 16_000)
        options = {"movflags": "frag_keyframe+empty_moov"} if name.startswith("fragments") else None
        with suppress(Exception):  # what this FFmpeg cannot write
            each = signal[:1] if codec in MONO else signal
            made.save_av(folder / name, made.resampled(each, rate_hz), codec, rate_hz, options=options)
            found[name] = (folder / name).read_bytes()
    return {name: data for name, data in found.items() if data}


def mutated(sound: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield that many damaged copies, each with a name of its own."""
    names = sorted(sound)
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        name = names[number % len(names)]
        yield f"{number:05}-{name}", _damaged(sound[name], sound[names[rng.integers(len(names))]], rng)


def _damaged(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    broken = bytearray(data)
    head = min(len(broken), 512)
    for _ in range(rng.integers(1, 4)):
        at, kind = int(rng.integers(len(broken) or 1)), int(rng.integers(7))
        if kind == 0:  # bytes anywhere
            for place in rng.integers(0, len(broken), 16) if broken else ():
                broken[place] = rng.integers(256)
        elif kind == 1:  # bits of the header
            for place in rng.integers(0, min(head, len(broken)), 4) if broken else ():
                broken[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:  # a number of the header
            place = int(rng.integers(max(1, min(head, len(broken)) - 4)))
            broken[place : place + 4] = EXTREMES[rng.integers(len(EXTREMES))]
        elif kind == 3:  # an end too soon
            del broken[at:]
        elif kind == 4:  # a block of something else
            broken[at : at + 200] = rng.bytes(200)
        elif kind == 5:  # a piece twice
            broken[at:at] = broken[at : at + int(rng.integers(1, 2000))]
        else:  # a piece of another format
            place = int(rng.integers(len(other)))
            broken[at:at] = other[place : place + 500]
    return bytes(broken)
