"""``/segments/{id}/audio``, ``/recordings/{id}/audio`` and their ``peaks`` are decoded here, to be played and drawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from e2vsearch import audio
from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.errors import Cancelled
from e2vsearch.server.executor import stop_requested
from e2vsearch.server.parameters import (
    ContextQuery,
    EndQuery,
    PeaksQuery,
    RecordingPath,
    SegmentPath,
    Sha256Query,
    StartQuery,
)
from e2vsearch.server.responses import RequestError, errors_of, json_response, returns
from e2vsearch.server.results import RecordingPeaks, SegmentPeaks
from e2vsearch.server.routes.recordings import with_prefix
from e2vsearch.server.state import ServerState, disconnection
from e2vsearch.server.wav import RangeNotSatisfiable, VirtualWav, parse_range
from e2vsearch.types import Recording

_CACHED = {"Cache-Control": "private, max-age=3600"}

# what `e2vsearch map` writes is opened from disk, and plays sounds from here by the hash of their recordings; a page
# from elsewhere knows none, and the map's gets to read neither samples nor anything else
_EMBEDDED = {**_CACHED, "Cross-Origin-Resource-Policy": "cross-origin"}
_PEAK_STEP = 160  # samples, 10 ms: an hour of two channels is 2.9 MB of these
_WAV: dict[str, Any] = {"audio/wav": {"schema": {"type": "string", "format": "binary"}}}

_HEADERS = {
    "ETag": {"schema": {"type": "string"}},
    "Accept-Ranges": {"schema": {"type": "string", "const": "bytes"}},
}

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "16 kHz, 16 bit, whatever the recording's own format is.",
        "content": _WAV,
        "headers": _HEADERS,
    },
    206: {"description": "The bytes that `Range` asks for.", "content": _WAV, "headers": _HEADERS},
    304: {"description": "The copy that `If-None-Match` names is still good."},
}


def router(state: ServerState) -> APIRouter:
    """Return the routes over a collection."""
    routes = APIRouter(tags=["audio"])
    collection = state.collection

    def source_of(recording: Recording) -> str | audio.RangedAudio:
        state.roots.stored(recording.uri)
        return collection.playback.source(recording)

    def whole(identifier: str, sha256: str | None, start_s: float, end_s: float | None) -> tuple[VirtualWav, str]:
        recording = collection.recordings(with_prefix("call", identifier))[0]
        _check(recording, sha256)
        samples = round(recording.duration_s * SAMPLING_RATE_HZ)
        start = min(samples, round(min(start_s, recording.duration_s) * SAMPLING_RATE_HZ))
        end = samples
        if end_s is not None:
            end = max(start, min(samples, round(min(end_s, recording.duration_s) * SAMPLING_RATE_HZ)))
        of = () if (start, end) == (0, samples) else (start, end)
        return VirtualWav(source_of(recording), recording.channels, None, start, end - start), _tag(recording, *of)

    def stretch(identifier: str, context_s: float, sha256: str | None) -> tuple[VirtualWav, str]:
        segment = collection.segments(with_prefix("seg", identifier))[0]
        recording = collection.recordings(segment.recording)[0]
        _check(recording, sha256)
        start = max(0, round((segment.start_s - context_s) * SAMPLING_RATE_HZ))
        end = min(round(recording.duration_s * SAMPLING_RATE_HZ), round((segment.end_s + context_s) * SAMPLING_RATE_HZ))
        wav = VirtualWav(source_of(recording), 1, segment.channel, start, end - start)
        return wav, _tag(recording, segment.channel, start, end)

    async def send(request: Request, find: Callable[[], tuple[VirtualWav, str]], sha256: str | None) -> Response:
        extra = _CACHED if sha256 is None else _EMBEDDED
        with state.reading.ticket(state.options.timeout_s) as ticket:
            wav, tag = await ticket.run(find, disconnection(request))
            headers = {**extra, "ETag": tag, "Accept-Ranges": "bytes"}
            if tag in [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]:
                return Response(status_code=304, headers=headers)
            header = request.headers.get("range") if request.headers.get("if-range", tag) == tag else None
            try:
                part = parse_range(header, wav.size)
            except RangeNotSatisfiable:
                headers["Content-Range"] = f"bytes */{wav.size}"
                raise RequestError(416, "range", f"there are {wav.size} bytes, and none of those", headers) from None
            first, end = part or (0, wav.size)
            headers["Content-Length"] = str(end - first)
            if part is not None:
                headers["Content-Range"] = f"bytes {first}-{end - 1}/{wav.size}"
            status = 200 if part is None else 206
            if request.method == "HEAD":
                await ticket.run(lambda: audio.probe(wav.source), disconnection(request))  # whether it is there at all
                return Response(status_code=status, headers=headers, media_type="audio/wav")
            pieces = wav.pieces(first, end)
            # decoded before the first header goes out, so that a missing file is an error and not half a WAV
            begin = await ticket.run(lambda: next(pieces, b""), disconnection(request))
        return StreamingResponse(_stream(state, begin, pieces), status, headers, "audio/wav")

    def peaks_of_recording(identifier: str, n: int) -> tuple[RecordingPeaks, str]:
        recording = collection.recordings(with_prefix("call", identifier))[0]
        stop = stop_requested()
        steps: list[audio.Signal] = []
        for block in audio.stream(source_of(recording), stop=stop):
            if stop():
                raise Cancelled
            steps.append(audio.peaks(block, -(-block.shape[1] // _PEAK_STEP)))
        drawn = audio.peaks(np.concatenate(steps, axis=1), n)
        return RecordingPeaks(recording.duration_s, recording.channels, _rounded(drawn)), _tag(recording, n)

    def peaks_of_segment(identifier: str, n: int) -> SegmentPeaks:
        segment = collection.segments(with_prefix("seg", identifier))[0]
        state.roots.stored(collection.recordings(segment.recording)[0].uri)
        drawn = _rounded(audio.peaks(collection.clip(segment.id), n))
        return SegmentPeaks(segment.start_s, segment.end_s, drawn[0])

    @routes.get(
        "/segments/{id}/audio",
        summary="The audio of one segment",
        response_class=Response,
        responses={**errors_of(403, 404, 410, 415, 416, 422), **_RESPONSES},
    )
    @routes.head("/segments/{id}/audio", include_in_schema=False)
    async def get_segment_audio(
        id: SegmentPath, request: Request, context_s: ContextQuery = 0.0, sha256: Sha256Query = None
    ) -> Response:
        """Return that stretch of its channel as a WAV file."""
        return await send(request, lambda: stretch(id, context_s, sha256), sha256)

    @routes.get(
        "/recordings/{id}/audio",
        summary="The audio of a recording",
        response_class=Response,
        responses={**errors_of(403, 404, 410, 415, 416, 422), **_RESPONSES},
    )
    @routes.head("/recordings/{id}/audio", include_in_schema=False)
    async def get_recording_audio(
        id: RecordingPath,
        request: Request,
        start_s: StartQuery = 0.0,
        end_s: EndQuery = None,
        sha256: Sha256Query = None,
    ) -> Response:
        """All channels, as a WAV file that is decoded as it is read: `Range` is honoured, and nothing is kept."""
        return await send(request, lambda: whole(id, sha256, start_s, end_s), sha256)

    @routes.get(
        "/segments/{id}/peaks", summary="The waveform of one segment", **returns(SegmentPeaks, 403, 404, 410, 415, 422)
    )
    async def get_segment_peaks(id: SegmentPath, request: Request, n: PeaksQuery = 200) -> Response:
        """Return the largest magnitude, 0 to 1, in each of n equal parts."""
        return json_response(SegmentPeaks, await state.read(request, lambda: peaks_of_segment(id, n)), _CACHED)

    @routes.get(
        "/recordings/{id}/peaks",
        summary="The waveform of a whole recording",
        **returns(RecordingPeaks, 403, 404, 410, 415, 422),
    )
    async def get_recording_peaks(id: RecordingPath, request: Request, n: PeaksQuery = 800) -> Response:
        """Return the largest magnitude, 0 to 1, in each of n equal parts of every channel; to 10 ms."""
        drawn, tag = await state.embed(request, lambda: peaks_of_recording(id, n))
        return json_response(RecordingPeaks, drawn, {**_CACHED, "ETag": tag})

    return routes


async def _stream(state: ServerState, piece: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    # without a ticket: a response that has begun cannot be refused
    while piece:
        yield piece
        piece = await asyncio.wrap_future(state.reading.submit(lambda: next(pieces, b"")))


def _check(recording: Recording, sha256: str | None) -> None:
    if sha256 is not None and not recording.content_sha256.startswith(sha256):
        raise RequestError(403, "origin", "the recording has another SHA-256 - write the map again")


def _tag(recording: Recording, *of: int) -> str:
    return f'"{"-".join([recording.content_sha256[:24], *(str(each) for each in of)])}"'


def _rounded(peaks: audio.Signal) -> list[list[float]]:
    """Three decimals: a drawing has a few hundred pixels."""
    rounded: list[list[float]] = np.round(np.minimum(peaks.astype(np.float64), 1.0), 3).tolist()
    return rounded
