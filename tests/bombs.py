"""Files that are made to use up what decodes them: memory, time, channels. Each is small, or is cheap to write.

The benchmark `hostile.py` sends them through an ingest and a service, tests open some of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from made import save_av, silence, speech


def _box(name: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I4s", 8 + len(body), name) + body


def mp4_index(folder: Path, samples: int, tracks: int = 1, size: int = 1, first: bytes = b"ftyp") -> bytes:
    """An MP4 of some 20 kB whose index promises that many samples in each track."""
    data = bytearray(save_av(folder / "seed.m4a", speech(3.0), "aac", options={"movflags": "faststart"}).read_bytes())
    (folder / "seed.m4a").unlink()
    data[4:8] = first
    at = data.index(b"stsz") + 8
    struct.pack_into(">II", data, at, size, samples)
    at = data.index(b"stts") + 8
    struct.pack_into(">III", data, at, 1, samples, 1024)
    at = data.index(b"stsc") + 8
    struct.pack_into(">IIII", data, at, 1, 1, samples, 1)
    if tracks == 1:
        return bytes(data)
    moov = data.index(b"moov") - 4
    moov_size = struct.unpack_from(">I", data, moov)[0]
    trak = data.index(b"trak") - 4
    one = bytes(data[trak : trak + struct.unpack_from(">I", data, trak)[0]])
    struct.pack_into(">I", data, moov, moov_size + (tracks - 1) * len(one))
    return bytes(data[: trak + len(one)]) + (tracks - 1) * one + bytes(data[trak + len(one) :])


def mp4_fragments(folder: Path, samples: int) -> bytes:
    """A fragmented MP4 whose one run promises that many samples, each of the size that its track has by default."""
    movflags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    data = save_av(folder / "seed.mp4", speech(3.0), "aac", options=movflags).read_bytes()
    (folder / "seed.mp4").unlink()
    head = data[: data.index(b"moof") - 4]
    tfhd = _box(b"tfhd", struct.pack(">IIII", 0x020018, 1, 1024, 1))
    trun = _box(b"trun", struct.pack(">II", 0, samples))
    return head + _box(b"moof", _box(b"mfhd", bytes(8)), _box(b"traf", tfhd, trun)) + _box(b"mdat", bytes(64))


def mp4_boxes(count: int) -> bytes:
    """An MP4 of that many empty boxes."""
    return _box(b"ftyp", b"M4A \x00\x00\x00\x00") + _box(b"free") * count


def _element(identifier: int, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    width = (identifier.bit_length() + 7) // 8
    return identifier.to_bytes(width, "big") + (len(body) | 1 << 56).to_bytes(8, "big") + body


def laced_matroska(size: int) -> bytes:
    """Blocks of 255 frames of AAC, a byte each, none of which decodes; some 400,000 of them in a megabyte."""
    head = _element(0x1A45DFA3, _element(0x4282, b"matroska"))
    track = _element(
        0xAE,
        _element(0xD7, b"\x01"),
        _element(0x73C5, b"\x01"),
        _element(0x83, b"\x02"),
        _element(0x86, b"A_AAC"),
        _element(0x63A2, b"\x12\x10"),
        _element(0xE1, _element(0xB5, struct.pack(">d", 44_100.0)), _element(0x9F, b"\x02")),
    )
    block = _element(0xA3, b"\x81\x00\x00\x04\xfe" + b"\xff" * 255)
    cluster = _element(0x1F43B675, _element(0xE7, b"\x00"), block * (size // len(block)))
    body = _element(0x1549A966, _element(0x2AD7B1, b"\x0f\x42\x40")) + _element(0x1654AE6B, track) + cluster
    return head + b"\x18\x53\x80\x67" + b"\x01" + b"\xff" * 7 + body


def wav(channels: int = 1, rate_hz: int = 16_000, claim: int | None = None, size: int = 64_000) -> bytes:
    """A WAV with these numbers in its header; `claim`: the bytes that it says it has."""
    frame = 2 * channels & 0xFFFF
    header = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame & 0xFFFFFFFF, frame, 16)
    said = size if claim is None else claim
    whole = b"WAVEfmt " + struct.pack("<I", 16) + header + b"data" + struct.pack("<I", said)
    return b"RIFF" + struct.pack("<I", len(whole) + size & 0xFFFFFFFF) + whole + bytes(size)


def riff_chain(count: int) -> bytes:
    """A WAV of that many empty chunks, and no data."""
    return b"RIFF" + struct.pack("<I", 4 + 8 * count) + b"WAVE" + b"junk\x00\x00\x00\x00" * count


def id3_chain(count: int) -> bytes:
    """That many empty ID3 tags."""
    return b"ID3\x04\x00\x00\x00\x00\x00\x00" * count


def ape(frames: int) -> bytes:
    """A Monkey's Audio file that says it has that many frames; FFmpeg takes 32 bytes for each before it looks."""
    descriptor = struct.pack("<4sHHIIIIIII", b"MAC ", 3990, 0, 52, 24, 4 * frames, 0, 1000, 0, 0) + bytes(16)
    return descriptor + struct.pack("<HHIIIHHI", 2000, 0, 73_728, 1000, frames, 16, 2, 44_100) + bytes(4000)


def long_silence(path: Path, hours: float) -> None:
    """Hours of silence, which FLAC and Opus hold in little."""
    minute = np.zeros((960_000, 1), np.int16)
    if path.suffix == ".flac":
        import soundfile

        with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
            for _ in range(round(60 * hours)):
                file.write(minute)
        return
    import av

    minute_of = save_av(path.with_name("minute.webm"), silence(60.0), "libopus", 16_000)
    with av.open(str(minute_of)) as made:
        packets = [packet for packet in made.demux(made.streams.audio[0]) if packet.pts is not None and packet.size]
        with av.open(str(path), "w") as file:
            stream = file.add_stream_from_template(made.streams.audio[0])
            for number in range(round(60 * hours)):
                for packet in packets:
                    copy = av.Packet(bytes(packet))
                    copy.stream, copy.time_base, copy.duration = stream, packet.time_base, packet.duration
                    copy.pts = copy.dts = (packet.pts or 0) + number * 60_100  # milliseconds, as WebM counts
                    file.mux(copy)
    minute_of.unlink()


def bytes_of(folder: Path) -> dict[str, Callable[[], bytes]]:
    """Makers of bombs that can be sent, by the names of their files; `folder` is for what is made on the way."""
    return {
        "mp4-index.m4a": lambda: mp4_index(folder, 80_000_000),
        "mp4-index-8.m4a": lambda: mp4_index(folder, 80_000_000, tracks=8),
        "mp4-index-sized.m4a": lambda: mp4_index(folder, 80_000_000, size=4),
        "mp4-index-first.m4a": lambda: mp4_index(folder, 80_000_000, first=b"uuid"),
        "mp4-index-200.m4a": lambda: mp4_index(folder, 100, tracks=200),
        "mp4-index-padded.m4a": lambda: mp4_index(folder, 100_000_000) + _box(b"free", bytes(13_000_000)),
        "mp4-fragments.mp4": lambda: mp4_fragments(folder, 80_000_000),
        "mp4-boxes.mp4": lambda: mp4_boxes(4_000_000),
        "laced.mka": lambda: laced_matroska(4_500_000),
        "laced-long.webm": lambda: laced_matroska(20_000_000),
        "channels-255.wav": lambda: wav(channels=255, size=40_000_000),
        "channels-1024.wav": lambda: wav(channels=1024, size=40_000_000),
        "channels-65535.wav": lambda: wav(channels=65_535),
        "channels-0.wav": lambda: wav(channels=0),
        "rate-1.wav": lambda: wav(rate_hz=1),
        "rate-10M.wav": lambda: wav(rate_hz=10_000_000),
        "claim-4G.wav": lambda: wav(claim=0xFFFFFFF0),
        "riff-chain.wav": lambda: riff_chain(6_000_000),
        "id3-chain.mp3": lambda: id3_chain(4_000_000),
        "frames.ape": lambda: ape(60_000_000),
    }
