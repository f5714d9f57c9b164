"""Headers are checked: whether a container holds all it says it holds, without decoding it.

Decoders take a file that was cut off for a short one: libsndfile clamps a WAV's length to the file, FFmpeg plays an
MP4 up to its last whole packet. A call that lost its second half must not be searched as if it were whole, so headers
are compared with the file's size before anything is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from e2vsearch.audio.sources import Source
from e2vsearch.errors import AudioTruncated

SLACK_BYTES = 64
"""A PCM header may claim this much more than there is: some writers count their own 44-byte header (4 ms at 8 kHz)."""

OGG_PAGE_BYTES = 27 + 255 + 255 * 255
"""The largest Ogg page (RFC 3533, section 6)."""

_RIFF_TAGS = (b"RIFF", b"RF64", b"BW64")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def check(source: Source) -> None:
    """Compare what the header claims with what the file holds; unknown formats pass.

    Raises:
        AudioTruncated: the file ends first.
    """
    head = source.at(0, 16)
    if head[:4] in _RIFF_TAGS and source.at(8, 4) == b"WAVE":
        _check_wav(source)
    elif head == _W64_RIFF:
        _check_data(source, _w64_chunks(source))
    elif head[:4] == b"FORM":
        _check_data(source, _chunks(source, 12, ">4sI", pad=2))
    elif head[:4] == b"caff":
        _check_data(source, _chunks(source, 8, ">4sq", pad=1))
    elif head[:4] == b"OggS":
        _check_ogg(source)
    elif head[:4] == _EBML:
        _check_ebml(source)
    elif head[4:8] in _MP4_BOXES:
        _check_mp4(source)


def _truncated(source: Source, missing: int) -> AudioTruncated:
    return AudioTruncated(
        f"{source.name} is cut off: {missing:,} bytes of what its header states are missing - copy or export it again"
    )


def _chunks(source: Source, start: int, layout: str, pad: int) -> Iterator[tuple[bytes, int, int]]:
    """``(name, start of body, size of body)`` of each chunk, sizes as claimed."""
    width = struct.calcsize(layout)
    while len(head := source.at(start, width)) == width:
        name, size = struct.unpack(layout, head)
        yield name, start + width, size
        if size < 0:
            return
        start += width + -(-size // pad) * pad


def _w64_chunks(source: Source) -> Iterator[tuple[bytes, int, int]]:
    """As `_chunks`; a Wave64 chunk has a GUID for a name, and its size counts its own 24-byte head."""
    start = 40
    while len(head := source.at(start, 24)) == 24:
        size = int.from_bytes(head[16:], "little")
        yield (head[:4] if head[4:16] == _W64_TAIL else b""), start + 24, size - 24
        start += max(24, -(-size // 8) * 8)


def _check_data(source: Source, chunks: Iterator[tuple[bytes, int, int]]) -> None:
    for name, start, size in chunks:
        missing = start + size - source.size
        if missing > SLACK_BYTES:
            raise _truncated(source, missing)
        if name in (b"data", b"SSND"):
            return


def _check_wav(source: Source) -> None:
    data_size: int | None = None  # RF64 keeps the true size in its ds64 chunk
    for name, start, size in _chunks(source, 12, "<4sI", pad=2):
        if name == b"ds64":
            data_size = int.from_bytes(source.at(start + 8, 8), "little")
        if name == b"data":
            if size == 0xFFFFFFFF and data_size is not None:
                size = data_size
            elif size in (0, 0xFFFFFFFF) or 0x7FFFF000 <= size <= 0x80000000:
                return  # written into a pipe, its length unknown: FFmpeg's, SoX's and arecord's ways of saying so
        if start + size - source.size > SLACK_BYTES:
            raise _truncated(source, start + size - source.size)
        if name == b"data":
            return


def _check_ogg(source: Source) -> None:
    """Check that the last page is whole and carries the end-of-stream flag."""
    start = max(0, source.size - 2 * OGG_PAGE_BYTES)
    tail = source.at(start, source.size - start)
    page = tail[tail.rfind(b"OggS") :]
    segments = page[26] if len(page) > 26 else 0
    missing = 27 + segments + sum(page[27 : 27 + segments]) - len(page)
    if len(page) <= 26 or missing > 0:
        raise _truncated(source, max(1, missing))
    if not page[5] & 4:
        raise AudioTruncated(f"{source.name} is cut off: its last Ogg page does not end the stream - copy it again")


def _check_mp4(source: Source) -> None:
    boxes = set()
    start = 0
    while len(head := source.at(start, 8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if size == 1:
            size = int.from_bytes(source.at(start + 8, 8), "big")
        elif size == 0:  # reaches to the end of the file
            size = source.size - start
        if size < 8:
            break  # no box: let the decoder say what it makes of it
        boxes.add(name)
        start += size
        if start > source.size and name.isalnum():
            raise _truncated(source, start - source.size)
    if b"mdat" in boxes and not boxes & {b"moov", b"meta"}:  # a HEIC picture has meta, a film or recording moov
        raise AudioTruncated(
            f"{source.name} is cut off: its index (the moov box, written last) is missing - record or copy it again"
        )


def _check_ebml(source: Source) -> None:
    """Check that the segment of a WebM or Matroska file fits; live recordings state no size."""
    size, start = _vint(source.at(4, 8), 4)
    start += size
    if source.at(start, 4) == _SEGMENT:
        size, body = _vint(source.at(start + 4, 8), start + 4)
        unknown = (1 << 7 * (body - start - 4)) - 1
        if size != unknown and body + size > source.size:
            raise _truncated(source, body + size - source.size)


def _vint(data: bytes, position: int) -> tuple[int, int]:
    """Return an EBML variable-size integer (RFC 8794, section 4) and the position after it."""
    width = 9 - (data[0].bit_length() if data else 8)
    return int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1), position + width


def mp3_samples(source: Source) -> int | None:
    """Return the samples that an MP3's Xing, Info or VBRI header promises, less encoder padding; None without one."""
    start = 0
    while (head := source.at(start, 10))[:3] == b"ID3" and len(head) == 10:  # its size is four 7-bit bytes
        start += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    frame = source.at(start, 200)
    if len(frame) < 180 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:  # sync, layer III
        return None
    mpeg1, mono = frame[1] & 0x18 == 0x18, frame[3] >> 6 == 3
    per_frame = 1152 if mpeg1 else 576
    xing = 4 + ((17 if mono else 32) if mpeg1 else (9 if mono else 17))
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big") * per_frame
    if frame[xing : xing + 4] not in (b"Xing", b"Info") or not frame[xing + 7] & 1:
        return None
    frames = int.from_bytes(frame[xing + 8 : xing + 12], "big")
    flags = frame[xing + 7]
    lame = xing + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    delays = int.from_bytes(frame[lame + 21 : lame + 24], "big") if frame[lame : lame + 4].isalnum() else 0
    return frames * per_frame - (delays >> 12) - (delays & 0xFFF)
