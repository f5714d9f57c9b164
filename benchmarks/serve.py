"""How a service fares with fifty clients at a time: latency, throughput, refusals, memory, and a kill in mid-load.

    python benchmarks/serve.py

`e2vsearch serve` runs as a process of its own over the samples, with the light encoder; clients upload clips of 3 to
10 s, ask by stored ids and fetch the sound of segments, each as soon as its last answer is there. They run on the same
cores as the service. Then the service is killed (SIGKILL) under the same load, started again, and must give the same
answer as before from an index that verifies.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from _table import Row, parser, show

from e2vsearch import audio

CLIENTS = 50
MIX = {"upload": 0.3, "query by id": 0.4, "segment audio": 0.3}
SAMPLES = Path(__file__).resolve().parent.parent / "samples"
OURS = [sys.executable, "-m", "e2vsearch"]


@dataclass
class Load:
    """What became of the requests."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in MIX})
    refused: int = 0  # 503
    errors: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """How many got what they asked for."""
        return sum(len(each) for each in self.seconds.values())


@dataclass(frozen=True)
class Service:
    """A running service."""

    process: subprocess.Popen[str]
    address: str

    def memory_mb(self) -> float:
        """Return what it holds in memory that is its own or mapped, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.findall(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1000


@contextmanager
def serving(index: Path, log: Path) -> Iterator[Service]:
    """Run a service over `index` until the context is left."""
    with log.open("w", encoding="utf-8") as out:
        command = [*OURS, "serve", "--index", str(index), "--port", "0"]
        process = subprocess.Popen(command, stderr=out, stdout=subprocess.DEVNULL, text=True)
        try:
            while not (
                found := re.findall(r"^serving .* at (http://\S+)", log.read_text(encoding="utf-8"), re.MULTILINE)
            ):
                if process.poll() is not None:
                    raise SystemExit(log.read_text(encoding="utf-8"))
                time.sleep(0.05)
            yield Service(process, found[0])
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        finally:
            process.kill()
            process.wait()


def clips() -> list[bytes]:
    """Short recordings: the sample, and cuts from sample calls."""
    rng = random.Random(0)
    made = [(SAMPLES / "angry.ogg").read_bytes()]
    for path in sorted((SAMPLES / "calls").iterdir()):
        start_s = rng.uniform(0.0, 4.0)
        made.append(audio.encode(audio.cut(path, start_s, start_s + rng.uniform(3.0, 6.0))))
    return made


async def ask(
    client: httpx.AsyncClient, kind: str, segments: int, sounds: list[bytes], rng: random.Random
) -> httpx.Response:
    """One request of that kind."""
    number = rng.randint(1, segments)
    if kind == "upload":
        files = {"file": ("clip", rng.choice(sounds))}
        return await client.post("/query/upload", files=files, data={"k": "5"})
    if kind == "query by id":
        by = rng.choice(["recording", "segment"])
        return await client.post("/query", json={"references": [f"seg:{number}"], "k": 10, "by": by})
    return await client.get(f"/segments/{number}/audio")


async def press(
    address: str, clients: int, seconds: float, segments: int, sounds: list[bytes], only: str | None = None
) -> Load:
    """Run that many clients for so long."""
    load = Load()
    until = time.monotonic() + seconds

    async def one(number: int) -> None:
        rng = random.Random(number)
        async with httpx.AsyncClient(base_url=address, timeout=120) as client:
            while time.monotonic() < until:
                kind = only or rng.choices(list(MIX), list(MIX.values()))[0]
                started = time.perf_counter()
                try:
                    response = await ask(client, kind, segments, sounds, rng)
                except httpx.HTTPError as error:
                    load.errors.append(f"{kind}: {type(error).__name__}")
                    await asyncio.sleep(0.2)
                    continue
                if response.status_code == 200:
                    load.seconds[kind].append(time.perf_counter() - started)
                elif response.status_code == 503:
                    load.refused += 1
                    await asyncio.sleep(float(response.headers["retry-after"]) * rng.uniform(0.5, 1.0))
                else:
                    load.errors.append(f"{kind}: {response.status_code} {response.text[:200]}")

    await asyncio.gather(*(one(number) for number in range(clients)))
    return load


async def measured(service: Service, seconds: float, segments: int, sounds: list[bytes]) -> tuple[list[Row], Load]:
    """Return the rows of the table for a service at work."""
    alone = {
        kind: (await press(service.address, 1, seconds / 15, segments, sounds, kind)).seconds[kind] for kind in MIX
    }
    await press(service.address, CLIENTS, seconds / 10, segments, sounds)  # pools, caches and arenas fill once
    memory = [service.memory_mb()]
    load = Load()
    for _ in range(2):
        part = await press(service.address, CLIENTS, seconds / 2, segments, sounds)
        memory.append(service.memory_mb())
        for kind in MIX:
            load.seconds[kind] += part.seconds[kind]
        load.refused += part.refused
        load.errors += part.errors
    rows = []
    for kind, spent in load.seconds.items():
        if not spent or not alone[kind]:
            load.errors.append(f"{kind}: nothing was answered in {seconds:.0f} s")
            continue
        base = f"{kind}, one client"
        beside = float(np.median(alone[kind])) * 1000
        rows.append(Row(base, beside, "ms"))
        for share in (50, 95):
            value = float(np.percentile(spent, share)) * 1000
            rows.append(Row(f"{kind}, p{share}", value, "ms", value / beside, base))
    asked = load.answered + load.refused + len(load.errors)
    rows += [
        Row(f"requests answered, {CLIENTS} clients", load.answered / seconds, "/s"),
        Row("clips listened to", len(load.seconds["upload"]) / seconds, "/s"),
        Row("refused with 503", 100 * load.refused / asked, "%"),
        Row("errors", len(load.errors)),
        Row("memory before", memory[0], "MB"),
        Row("memory half way", memory[1], "MB", memory[1] / memory[0], "memory before"),
        Row("memory at the end", memory[2], "MB", memory[2] / memory[0], "memory before"),
    ]
    return rows, load


async def killed(service: Service, segments: int, sounds: list[bytes]) -> None:
    """Kill a service while all clients are at it."""
    load = asyncio.create_task(press(service.address, CLIENTS, 3.0, segments, sounds))
    await asyncio.sleep(1.5)
    service.process.kill()
    await load


def answer(address: str) -> object:
    """Return what a query gives, less the time it took."""
    found = httpx.post(f"{address}/query", json={"references": ["seg:7"], "k": 12}, timeout=60).json()
    return found["hits"]


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__).parse_args()
    seconds = 10.0 if arguments.quick else 60.0
    sounds = clips()
    with tempfile.TemporaryDirectory() as scratch:
        index, log = Path(scratch) / "index", Path(scratch) / "log"
        ingest = [*OURS, "ingest", str(SAMPLES / "calls"), "--encoder", "light", "--index", str(index), "-q"]
        subprocess.run(ingest, check=True, capture_output=True)
        with serving(index, log) as service:
            status = httpx.get(f"{service.address}/status", timeout=60).json()
            segments = status["counts"]["segments"]
            before = answer(service.address)
            rows, load = asyncio.run(measured(service, seconds, segments, sounds))
        orderly = service.process.returncode
        with serving(index, log) as service:
            asyncio.run(killed(service, segments, sounds))
        started = time.perf_counter()
        with serving(index, log) as service:
            same = answer(service.address) == before
            back_s = time.perf_counter() - started
        verified = subprocess.run([*OURS, "index", "verify", "--index", str(index)], check=False, capture_output=True)
    rows += [
        Row("killed and started again: until it answers", back_s, "s"),
        Row("  the same answer as before (1: yes)", float(same)),
        Row("  index verified (1: yes)", float(verified.returncode == 0)),
        Row("exit code after SIGTERM", orderly),
    ]
    show(f"{CLIENTS} clients for {seconds:.0f} s, light encoder, clients on the same cores", rows, arguments.json)
    for error in sorted(set(load.errors)):
        print(f"  error: {error}")
    if load.errors or not same or verified.returncode or orderly:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
