"""Headers are checked: whether a container holds all it says it holds, without decoding it.

Decoders take a file that was cut off for a short one: libsndfile clamps a WAV's length to the file, FFmpeg plays an
MP4 up to its last whole packet. A call that lost its second half must not be searched as if it were whole, so headers
are compared with the file's size before anything is decoded.

FFmpeg makes an entry of some 30 bytes for each sample that an MP4's tables promise when it opens the file: 80 million
in a file of 19 kB took 2.9 GB. So tables are compared with the file's size as well: a sample has a byte at least.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from e2vsearch.audio.sources import Source
from e2vsearch.errors import AudioTruncated, AudioUnreadable

SLACK_BYTES = 64
"""A PCM header may claim this much more than there is: some writers count their own 44-byte header (4 ms at 8 kHz)."""

OGG_PAGE_BYTES = 27 + 255 + 255 * 255
"""The largest Ogg page (RFC 3533, section 6)."""

MAX_CHUNKS = 10_000
"""Of a RIFF, AIFF, CAF or Wave64 file, and tags of an MP3; recorders write a dozen. A million are made to cost time."""

MAX_TRACKS, MAX_BOXES, MAX_DEPTH = 32, 200_000, 16
"""Of an MP4; twelve hours in fragments of two seconds have 170,000 boxes, no more than seven of them in one another."""

_RIFF_TAGS = (b"RIFF", b"RF64", b"BW64")
_MP4_BOXES = frozenset((
    b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot",  # what recorders begin with
    b"styp", b"moof", b"sidx", b"udta", b"uuid", b"junk", b"pict", b"prfl", b"ediw",  # and what else FFmpeg takes
))  # fmt: skip
# FFmpeg reads tables wherever they are in these, whatever the standard says (mov_default_parse_table in its mov.c)
_MP4_PARENTS = frozenset((
    b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"edts", b"dinf", b"udta", b"tref", b"wave",
    b"ilst", b"meta", b"clip", b"matt", b"cmov", b"sinf", b"schi",
))  # fmt: skip
_MP4_ENTRY_BYTES = {b"stts": 8, b"ctts": 8, b"stsc": 12, b"stco": 4, b"co64": 8, b"stss": 4, b"stps": 4}
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def check(source: Source) -> None:
    """Compare what the header claims with what the file holds; unknown formats pass.

    Raises:
        AudioTruncated: the file ends first.
        AudioUnreadable: it promises what no file of its size can hold.
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
        _Tables(source).check()


def _truncated(source: Source, missing: int) -> AudioTruncated:
    return AudioTruncated(
        f"{source.name} is cut off: {missing:,} bytes of what its header states are missing - copy or export it again"
    )


def _overloaded(source: Source, what: str) -> AudioUnreadable:
    return AudioUnreadable(
        f"{source.name} cannot be sound: {what}; it is damaged, or made to use up a decoder - export it again"
    )


def _chunks(source: Source, start: int, layout: str, pad: int) -> Iterator[tuple[bytes, int, int]]:
    """``(name, start of body, size of body)`` of each chunk, sizes as claimed."""
    width = struct.calcsize(layout)
    for _ in range(MAX_CHUNKS):
        if len(head := source.at(start, width)) < width:
            return
        name, size = struct.unpack(layout, head)
        yield name, start + width, size
        if size < 0:
            return
        start += width + -(-size // pad) * pad
    raise _overloaded(source, f"it has more than {MAX_CHUNKS:,} chunks")


def _w64_chunks(source: Source) -> Iterator[tuple[bytes, int, int]]:
    """As `_chunks`; a Wave64 chunk has a GUID for a name, and its size counts its own 24-byte head."""
    start = 40
    for _ in range(MAX_CHUNKS):
        if len(head := source.at(start, 24)) < 24:
            return
        size = int.from_bytes(head[16:], "little")
        yield (head[:4] if head[4:16] == _W64_TAIL else b""), start + 24, size - 24
        start += max(24, -(-size // 8) * 8)
    raise _overloaded(source, f"it has more than {MAX_CHUNKS:,} chunks")


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


def _boxes(source: Source, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """``(name, start of body, end)`` of each box of an MP4 between two positions, ends as claimed."""
    while start + 8 <= end and len(head := source.at(start, 16)) >= 8:
        size, name = struct.unpack_from(">I4s", head)
        body = start + 8
        if size == 1:
            size, body = int.from_bytes(head[8:], "big"), start + 16
        elif size == 0:  # reaches to the end of the file
            size = end - start
        if size < body - start:
            return  # no box: let the decoder say what it makes of it
        yield name, body, start + size
        start += size


def _check_mp4(source: Source) -> None:
    boxes = set()
    for count, (name, _, end) in enumerate(_boxes(source, 0, source.size)):
        if count == MAX_BOXES:
            raise _overloaded(source, f"it has more than {MAX_BOXES:,} boxes")
        boxes.add(name)
        if end > source.size and name.isalnum():
            raise _truncated(source, end - source.size)
    if b"mdat" in boxes and not boxes & {b"moov", b"meta"}:  # a HEIC picture has meta, a film or recording moov
        raise AudioTruncated(
            f"{source.name} is cut off: its index (the moov box, written last) is missing - record or copy it again"
        )


class _Tables:
    """The tables of an MP4 that say how many samples there are (ISO/IEC 14496-12, 8.6 to 8.8)."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._tracks = self._boxes = self._samples = 0

    def check(self) -> None:
        """Compare all that they promise with the bytes that there are.

        Raises:
            AudioUnreadable: no file of its size can hold so many samples, tracks or boxes.
        """
        self._walk(0, self._source.size, 0)

    def _walk(self, start: int, end: int, depth: int) -> None:
        for name, body, box_end in _boxes(self._source, start, end):
            self._boxes += 1
            box_end = min(box_end, end)
            if self._boxes > MAX_BOXES or depth > MAX_DEPTH:
                raise _overloaded(self._source, f"it has more than {MAX_BOXES:,} boxes, or more than {MAX_DEPTH} deep")
            if name == b"trak":
                self._tracks += 1
                if self._tracks > MAX_TRACKS:
                    raise _overloaded(self._source, f"it has more than {MAX_TRACKS} tracks")
            if name in _MP4_PARENTS:
                # it has a version and flags, but not in QuickTime
                flagged = name == b"meta" and self._source.at(body, 4) == bytes(4)
                self._walk(body + 4 * flagged, box_end, depth + 1)
            elif name in _MP4_ENTRY_BYTES:
                self._held(name, self._number(body + 4), _MP4_ENTRY_BYTES[name], box_end - body - 8)
            elif name in (b"stsz", b"stz2"):
                self._sizes(name, body, box_end)
            elif name == b"trun":
                self._add(self._number(body + 4))

    def _sizes(self, name: bytes, body: int, end: int) -> None:
        size, count = self._number(body + 4), self._number(body + 8)
        if name == b"stz2":  # sizes of 4, 8 or 16 bits, each written out
            self._held(name, count, (size & 0xFF) / 8, end - body - 12)
        elif size == 0:
            self._held(name, count, 4, end - body - 12)
        elif size > 1 and count * size > self._source.size:
            raise _truncated(self._source, count * size - self._source.size)
        elif size == 1:  # QuickTime's way to count samples of any codec, of which GSM holds 4.8 in a byte
            count //= 8
        self._add(count)

    def _held(self, name: bytes, count: int, entry_bytes: float, held: int) -> None:
        if count * entry_bytes > held:
            table = name.decode("ascii")
            raise _overloaded(
                self._source, f"a table of its index ({table}) promises {count:,} entries that are not there"
            )

    def _add(self, samples: int) -> None:
        self._samples += samples
        if self._samples > self._source.size:
            raise _overloaded(
                self._source, f"its index promises {self._samples:,} samples in {self._source.size:,} bytes"
            )

    def _number(self, at: int) -> int:
        return int.from_bytes(self._source.at(at, 4), "big")


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
    start = tags = 0
    while (head := source.at(start, 10))[:3] == b"ID3" and len(head) == 10:  # its size is four 7-bit bytes
        start += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        tags += 1
        if tags > MAX_CHUNKS:
            raise _overloaded(source, f"it has more than {MAX_CHUNKS:,} tags")
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
