"""Runs the services of ``compose.yaml`` as processes, from a bucket to a query, where there is no Docker.

    python deploy/compose.py

Postgres is the tests' server and the bucket is moto's; each service gets the command and the environment that the file
gives it, with the places that are here. Recordings are queued by their names in the bucket, two workers take them, one
is killed while it has some, and the service finds, plays and measures. Exit code 1 where anything is not as it should.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "benchmarks"))
from _postgres import server  # noqa: E402 - the same server as the benchmarks'

RECORDINGS = 12
PATIENCE_S = 180.0
SECRETS = {"POSTGRES_PASSWORD": "5ecret", "E2VSEARCH_API_KEY": "key"}


def filled(value: str, variables: dict[str, str]) -> str:
    """Return a value of the file with its ``${NAME:-default}`` and ``${NAME:?message}`` filled in."""

    def fill(found: re.Match[str]) -> str:
        name, kind, rest = found["name"], found["kind"], found["rest"]
        if variables.get(name):
            return variables[name]
        if kind == ":?":
            raise SystemExit(f"{name} is not set: {rest}")
        return rest or ""

    return re.sub(r"\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<rest>[^}]*))?\}", fill, value)


class Services:
    """The services of the file, as processes.

    Args:
        variables: what a file ``.env`` would have.
        places: what this machine has in place of the containers' names and folders.
    """

    def __init__(self, variables: dict[str, str], places: dict[str, str]) -> None:
        import yaml

        self._services = yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8"))["services"]
        self._variables = variables
        self._places = places

    def start(self, service: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a service, or one with another command: ``docker compose run``."""
        given = self._services[service]
        environment = {name: filled(value, self._variables) for name, value in given["environment"].items()}
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
        command = [sys.executable, "-m", "e2vsearch", *(arguments or given["command"])]
        return subprocess.Popen(command, env={**kept, **environment, **self._places}, text=True, **options)

    def run(self, service: str, *arguments: str) -> str:
        """Run a service to its end, and return what it prints.

        Raises:
            SystemExit: it fails.
        """
        process = self.start(service, *arguments, stdout=subprocess.PIPE)
        printed, _ = process.communicate(timeout=PATIENCE_S)
        if process.returncode:
            raise SystemExit(f"{service} failed: {' '.join(arguments)}")
        return printed


@contextmanager
def bucket(folder: Path) -> Iterator[str]:
    """Serve a bucket ``calls`` of made recordings, and yield the endpoint."""
    import s3fs
    from _postgres import from_tests
    from moto.server import ThreadedMotoServer

    made = from_tests("made")
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        store = s3fs.S3FileSystem(
            key="key", secret="5ecret", endpoint_url=f"http://{host}:{port}", use_listings_cache=False
        )
        store.mkdir("calls")
        for number in range(RECORDINGS):
            path = made.save(folder / f"{number}.wav", made.speech(6.0, seed=number, pitch_hz=100 + 10 * number))
            store.put_file(str(path), f"calls/2024/{number}.wav")
        yield f"http://{host}:{port}"
    finally:
        moto.stop()


def waited(what: str, done: Callable[[], bool]) -> None:
    """Wait until something is so.

    Raises:
        SystemExit: it is not within three minutes.
    """
    until = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until:
            raise SystemExit(f"{what}: not within {PATIENCE_S:.0f} s")
        time.sleep(0.2)


def asked(url: str, body: dict[str, Any] | None = None) -> bytes:
    """Return the service's answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {SECRETS['E2VSEARCH_API_KEY']}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        content: bytes = answer.read()
    return content


def main() -> None:
    """Go from a bucket to a query."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "calls").mkdir()
        endpoint = stack.enter_context(bucket(folder / "calls"))
        url = stack.enter_context(server()).format(name="postgres").replace("+psycopg", "")
        variables = {
            **SECRETS,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "5ecret",
            "AWS_ENDPOINT_URL": endpoint,
        }
        places = {"E2VSEARCH_INDEX": url, "E2VSEARCH_CACHE": str(folder / "cache"), "AWS_EC2_METADATA_DISABLED": "true"}
        services = Services(variables, places)

        services.run("upgrade", "db", "upgrade")
        queued = json.loads(
            services.run("worker", "ingest", "--queue", "s3://calls/2024/", "--encoder", "light", "-f", "json")
        )
        queued = queued[0] if isinstance(queued, list) else queued
        if queued["queued"] != RECORDINGS:
            raise SystemExit(f"queued {queued['queued']} of {RECORDINGS}")

        def depth() -> dict[str, int]:
            state = json.loads(services.run("worker", "queue", "-f", "json"))
            found: dict[str, int] = (state[0] if isinstance(state, list) else state)["depth"]
            return found

        # the first one is killed while it has recordings: its leases, of 5 s here, run out, and the second takes them
        lost = services.start("worker", "worker", "--lease", "5", "--workers", "1")
        waited("a worker takes some", lambda: depth()["leased"] > 0 or depth()["queued"] < RECORDINGS)
        lost.kill()
        lost.wait()
        worker = services.start("worker", "worker", "--lease", "5", "--workers", "1")
        waited("the queue is empty", lambda: depth()["queued"] + depth()["leased"] == 0)
        worker.send_signal(signal.SIGTERM)
        if worker.wait(PATIENCE_S):
            raise SystemExit("a worker does not end in order")

        service = services.start("serve", "serve", "--port", "0", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            assert service.stderr is not None
            said = next(line for line in service.stderr if "http://" in line)
            address = re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
            recordings = json.loads(asked(f"{address}/recordings?limit=100"))
            hits = json.loads(asked(f"{address}/query", {"references": ["seg:1"], "k": 5}))["hits"]
            sound = asked(f"{address}/segments/{hits[0]['segment']}/audio")
            metrics = asked(f"{address}/metrics").decode()
        finally:
            service.terminate()
            service.communicate(timeout=PATIENCE_S)
    checks = {
        "every recording is stored, and once": len({each["uri"] for each in recordings["recordings"]}) == RECORDINGS,
        "a query finds five": len(hits) == 5,
        "a segment in the bucket is played": sound.startswith(b"RIFF") and len(sound) > 10_000,
        "the gauge that workers are scaled by is there": 'e2vsearch_queue_recordings{state="queued"} 0.0' in metrics,
        "the service ends in order": service.returncode == 0,
    }
    for name, held in checks.items():
        print(f"{'ok' if held else 'FAILED':<8}{name}")
    if not all(checks.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
