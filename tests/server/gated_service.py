"""A service whose encoder waits to be let through, and what is asked of it meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from made import speech, wav_bytes
from service_client import LOCAL

import e2vsearch
from e2vsearch import encoder_check
from e2vsearch.encoders.base import Embeddings
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.server import create_app
from e2vsearch.server.options import ServiceOptions
from e2vsearch.server.state import ServerState

CLIP = wav_bytes(speech(2.0))
PATIENCE_S = 20.0  # for what must happen; nothing waits so long unless it is broken


class Gate(FakeEncoder):
    """A fake encoder that waits to be let through, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls: list[int] = []

    def _encode(self, signals: Any) -> Embeddings:
        if np.array_equal(
            signals[0], encoder_check.reference_clip()
        ):  # the check of every encoder that is opened for a collection
            return super()._encode(signals)
        self.calls.append(len(signals))
        self.entered.release()
        assert self.open.wait(PATIENCE_S)
        return super()._encode(signals)


Made = Callable[..., FastAPI]


@asynccontextmanager
async def serving(place: Path, gate: Gate) -> AsyncIterator[Made]:
    """Makes applications over one collection, whose encoder is the gate unless it is open."""
    apps: list[FastAPI] = []
    with e2vsearch.open(place, encoder=gate, create=True) as collection:

        def make(**options: Any) -> FastAPI:
            apps.append(create_app(collection, ServiceOptions(**options)))
            return apps[-1]

        yield make
        gate.open.set()
        for app in apps:
            state: ServerState = app.state.server
            await asyncio.to_thread(state.close)


def client_of(app: FastAPI, base_url: str = LOCAL) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)


async def send_clip(client: httpx.AsyncClient, data: bytes = CLIP, name: str = "clip.wav") -> httpx.Response:
    return await client.post("/query/upload", files={"file": (name, data)})


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.acquire, timeout=PATIENCE_S)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


def leftovers(app: FastAPI) -> list[str]:
    folder = app.state.server.uploads._folder
    return [path.name for path in folder.iterdir() if path.name != ".lock"] if folder is not None else []
