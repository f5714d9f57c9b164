"""Encoded bytes are decoded to float32 samples at the file's own rate.

WAV (with its 64-bit relatives), FLAC, AIFF, AU and CAF go through libsndfile, which seeks to the very sample. All else,
and whatever libsndfile refuses (G.729 in WAV), goes through FFmpeg by PyAV. Two formats that libsndfile 1.2.2 could
read do not go there: seeking in Ogg can miss the place (Vorbis, last second) or end the process (Opus), and for MP3
its mpg123 writes warnings straight to stderr and takes the first damaged frame for the end.

FFmpeg reads from a file object and may open nothing else: no protocol is allowed, and demuxers that follow links
(HLS and DASH playlists, concat lists) are not on the list, so an uploaded "recording" cannot read files or addresses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import containers
from e2vsearch.audio.sources import MAX_CHANNELS, Source, floats
from e2vsearch.errors import AudioEmpty, AudioInvalid, AudioTruncated, AudioUnreadable, Cancelled

if TYPE_CHECKING:
    import av

logger = logging.getLogger(__name__)
PREROLL_S = 1.0
"""Decoded before a wanted time: MP3's bit reservoir reaches back 0.25 s, Opus converges within 0.08 s (RFC 7845)."""

MAX_DAMAGED = 0.01
MIN_DAMAGED = 3
"""The share of packets that may be replaced by silence, and the number that always may; more is not a recording."""

PATIENCE, MOST_DAMAGED = 200, 1_000
"""Packets after which that share counts at once where none has given a sample, and damaged ones after which it counts
anywhere: a file can have millions of packets of a byte, none of which decodes."""

_BLOCK_SAMPLES = 1 << 20  # of all channels, so that 32 at 768 kHz take no more memory than a telephone's

DEMUXERS = (
    "aac ac3 aiff amr amrnb amrwb ape asf au avi caf dts eac3 flac flv g722 g723_1 g729 gsm loas matroska,webm "
    "mov,mp4,m4a,3gp,3g2,mj2 mp3 mpeg mpegts ogg rm tta voc w64 wav wv"
)

_SNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"fLaC", b"FORM", b".snd", b"caff")
_LISTS = frozenset({".csv", ".lst", ".m3u", ".m3u8", ".tsv", ".txt"})
"""Suffixes of what names recordings and is none."""

_SNDFILE_SUFFIXES = frozenset(
    (".wav", ".wave", ".flac", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64")
)
_HEADERLESS = {".gsm": "gsm", ".g722": "g722"}
_MP3_SLACK = 2 * 1152  # an encoder may count the frame that holds its header, or one it never filled
_UNKNOWN_FRAMES = 2**62  # for a FLAC without a length libsndfile says 2**63 - 1, for such a WAV 0


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file says of itself before it is decoded."""

    channels: int
    sampling_rate_hz: int  # the file's own
    duration_s: float | None  # None where the header does not say, as in a recording written into a pipe
    format: str  # container and codec: "WAV ULAW", "FLAC PCM_16", "mov,mp4 aac"


class SoundFileDecoder:
    """Decodes through libsndfile."""

    def __init__(self, source: Source, file: Any, stop: Callable[[], bool]) -> None:
        self._source = source
        self._file = file
        self._stop = stop
        self.info = AudioInfo(
            file.channels, file.samplerate, file.frames / file.samplerate, f"{file.format} {file.subtype}"
        )

    def blocks(self, start: int = 0) -> Iterator[NDArray[np.float32]]:
        """Blocks of a second at most, ``(samples, channels)``, from sample `start` on."""
        import soundfile

        rate, total = self._file.samplerate, self._file.frames
        count = max(1, min(rate, _BLOCK_SAMPLES // self._file.channels))
        position = 0
        try:
            if start and self._file.seekable():  # GSM 6.10 is not
                position = self._file.seek(min(start, total))
            while position < total:
                if self._stop():
                    raise Cancelled
                block = self._file.read(count, dtype="float32", always_2d=True)
                if not len(block):
                    break
                wanted = block[max(0, start - position) :]
                position += len(block)
                if len(wanted):
                    yield wanted
        except soundfile.LibsndfileError as error:
            raise _cut_off(self._source.name, position / rate, total / rate) from error
        if position < total:
            raise _cut_off(self._source.name, position / rate, total / rate)


class FFmpegDecoder:
    """Decodes through FFmpeg."""

    def __init__(
        self, source: Source, container: av.container.InputContainer, promised: int | None, stop: Callable[[], bool]
    ) -> None:
        if not container.streams.audio:
            kind = "has pictures, but no sound track" if container.streams.video else "has no sound track"
            raise AudioUnreadable(f"{source.name} {kind}: there is nothing to decode")
        self._source = source
        self._container = container
        self._stop = stop
        self._stream = stream = container.streams.audio[0]
        codec = stream.codec_context
        rate, channels = (codec.sample_rate, codec.channels) if codec else (0, 0)  # None: FFmpeg has no such decoder
        if not rate or not channels:
            raise AudioUnreadable(f"{source.name} has a sound track that cannot be decoded: export it as WAV")
        duration_s: float | None = None
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration_s = container.duration / 1_000_000  # FFmpeg's AV_TIME_BASE
        name = ",".join(container.format.name.split(",")[:2])
        self.info = AudioInfo(channels, rate, duration_s, f"{name} {codec.name}")
        if name == "flac" and duration_s is not None:
            promised = round(duration_s * rate)
        self._promised = promised  # samples that the header states; None where it counts none

    def blocks(self, start: int = 0) -> Iterator[NDArray[np.float32]]:
        """Blocks of a codec's frame each, ``(samples, channels)``, from sample `start` on.

        Packets well before `start` are passed over undecoded. A packet that cannot be decoded becomes silence, so that
        later times stay true.
        """
        import av

        name, rate = self._source.name, self.info.sampling_rate_hz
        origin: int | None = None  # presentation time of sample 0
        position = packets = damaged = lost = 0
        passed = 0  # packets since the last decoded one
        for packet in self._packets():
            if self._stop():  # for each packet: thousands of them may give no sample
                raise Cancelled
            if origin is not None and self._seconds(packet.pts, origin, start) < -PREROLL_S:
                passed += 1
                continue
            packets += 1
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError, OSError, MemoryError):
                damaged += 1
                lost += self._samples_of(packet)
                least = MIN_DAMAGED if position == 0 and packets >= PATIENCE else MOST_DAMAGED
                if damaged > max(least, MAX_DAMAGED * packets):
                    raise self._unsound(damaged, packets) from None
                continue
            for frame in frames:
                if passed and origin is not None:
                    by_clock = start + round(self._seconds(frame.pts, origin, start) * rate)
                    by_count = position + passed * frame.samples
                    # a WebM clock ticks in milliseconds; counting is exact where every packet is as long
                    position = by_count if abs(by_count - by_clock) <= 0.002 * rate else by_clock
                    passed = lost = 0
                origin = frame.pts if origin is None else origin
                block = self._floats(frame, position)
                # silence for lost packets comes only now: garbage after the last good packet is not audio; and in
                # pieces of a second, since a packet may claim any length
                silences = [min(rate, lost - at) for at in range(0, lost, rate)]
                lost = 0
                for piece in (*(np.zeros((size, block.shape[1]), np.float32) for size in silences), block):
                    wanted = piece[max(0, start - position) :]
                    position += len(piece)
                    if len(wanted):
                        yield wanted
        if damaged and (position == 0 or damaged > max(MIN_DAMAGED, MAX_DAMAGED * packets)):
            raise self._unsound(damaged, packets)
        if damaged:
            logger.warning(
                "%s: %d of %d packets do not decode, silence stands in for those before the end", name, damaged, packets
            )
        if position == 0:
            raise AudioEmpty(f"{name} has a header, but not a single sample: record or export it again")
        if self._promised is not None and position + _MP3_SLACK < self._promised:
            raise _cut_off(name, position / rate, self._promised / rate)

    def _unsound(self, damaged: int, packets: int) -> AudioUnreadable:
        return AudioUnreadable(
            f"{self._source.name} is no sound audio: {damaged:,} of {packets:,} packets do not decode - copy it again"
        )

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        import av

        try:
            yield from self._container.demux(self._stream)
        # IndexError: PyAV, where damage makes up a new stream; OSError: a seek to where no file has a byte
        except (av.error.FFmpegError, IndexError, ValueError, OSError, MemoryError) as error:
            raise AudioUnreadable(f"{self._source.name} is damaged part way: copy or export it again") from error

    def _seconds(self, pts: int | None, origin: int, start: int) -> float:
        """From sample `start` to `pts`; 0 for a packet that has no time."""
        base = self._stream.time_base
        return 0.0 if pts is None or base is None else float((pts - origin) * base) - start / self.info.sampling_rate_hz

    def _samples_of(self, packet: av.Packet[av.AudioStream]) -> int:
        if packet.duration is None or self._stream.time_base is None:
            return 0
        samples = packet.duration * self._stream.time_base * self.info.sampling_rate_hz
        return max(
            0, min(round(samples), self.info.sampling_rate_hz)
        )  # a damaged packet may claim days; none lasts 1 s

    def _floats(self, frame: av.AudioFrame, position: int) -> NDArray[np.float32]:
        channels, rate = self.info.channels, self.info.sampling_rate_hz
        if frame.sample_rate != rate or frame.layout.nb_channels != channels:
            raise AudioUnreadable(
                f"{self._source.name} changes to {frame.sample_rate} Hz and {frame.layout.nb_channels} channels at "
                f"{position / rate:.1f} s: convert it to WAV"
            )
        array = frame.to_ndarray()
        return floats(array.T if frame.format.is_planar else array.reshape(-1, channels))


def _cut_off(name: str, decoded_s: float, stated_s: float) -> AudioTruncated:
    return AudioTruncated(
        f"{name} is cut off: it decodes up to {decoded_s:.1f} s of the {stated_s:.1f} s that its header states "
        "- copy or export it again"
    )


def too_large(name: str) -> AudioUnreadable:
    """Return the error for what asks for more memory than there is, or than a decoder may have."""
    return AudioUnreadable(
        f"{name} takes more memory than any recording does: it is damaged, or made to do so - export it again, as WAV"
    )


Decoder = SoundFileDecoder | FFmpegDecoder


def module_for(suffix: str) -> str:
    """Return the package that will probably decode a file with that suffix."""
    return "soundfile" if suffix in _SNDFILE_SUFFIXES else "av"


@contextmanager
def open_decoder(source: Source, stop: Callable[[], bool] = lambda: False) -> Iterator[Decoder]:
    """Open the decoder for a source in this process, its header checked against its size.

    Args:
        source: what is decoded.
        stop: asked for each packet; once it returns true, `Cancelled` is raised.

    Raises:
        AudioTruncated: it ends before its header says it should.
        AudioEmpty: no samples.
        AudioInvalid: more than `MAX_CHANNELS` channels.
        AudioUnreadable: nothing here can decode it.
    """
    containers.check(source)
    with ExitStack() as stack:
        decoder: Decoder
        file = _open_soundfile(source)
        if file is not None:
            decoder = SoundFileDecoder(source, stack.enter_context(file), stop)
        else:
            promised = containers.mp3_samples(source)  # before FFmpeg reads: they share the file's position
            decoder = FFmpegDecoder(source, stack.enter_context(_open_ffmpeg(source)), promised, stop)
        if decoder.info.channels > MAX_CHANNELS:
            raise AudioInvalid(
                f"{source.name} has {decoder.info.channels} channels, and a call has {MAX_CHANNELS} at most: "
                "check its header, or save the channels that matter to a file"
            )
        yield decoder


def _open_soundfile(source: Source) -> Any:
    """Return an open `soundfile.SoundFile`, or None where FFmpeg should try."""
    import soundfile

    if not source.at(0, 4).startswith(_SNDFILE_MAGIC):
        return None
    source.file.seek(0)
    try:
        file = soundfile.SoundFile(source.file)
    except (soundfile.LibsndfileError, ValueError, OSError):
        return None
    if not 0 < file.frames < _UNKNOWN_FRAMES:  # FFmpeg reads on to the end of a file whose length was never filled in
        file.close()
        return None
    return file


def _tolerant(version: str) -> dict[str, Any]:
    """Return the option without which PyAV before 19 refuses a file whose tags are not UTF-8; 19 has it no more."""
    return {"metadata_errors": "ignore"} if int(version.partition(".")[0]) < 19 else {}


def _open_ffmpeg(source: Source) -> av.container.InputContainer:
    import av

    source.file.seek(0)
    try:
        container: av.container.InputContainer = av.open(
            source.file,
            "r",
            format=_HEADERLESS.get(source.suffix),
            options={"format_whitelist": DEMUXERS.replace(" ", ","), "protocol_whitelist": ""},
            **_tolerant(av.__version__),
        )
        return container
    except MemoryError as error:  # FFmpeg's own is one too
        raise too_large(source.name) from error
    except (av.error.FFmpegError, ValueError, OSError) as error:
        if source.suffix in _LISTS:
            raise AudioUnreadable(
                f"{source.name} is not audio: give a list of files, one a line, on stdin, e2vsearch ingest - < LIST"
            ) from error
        raise AudioUnreadable(
            f"{source.name} is not audio that can be decoded, whatever its name says: export it as WAV, FLAC or MP3"
        ) from error
