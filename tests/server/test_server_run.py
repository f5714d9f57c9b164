"""`e2vsearch serve` as a process: how it starts, what it refuses, and that it ends without losing a request."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from command import Run
from made import speech, wav_bytes

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("uvicorn", reason="the 'serve' extra is not installed")

import uvicorn

from e2vsearch.errors import ServiceError
from e2vsearch.server.run import address_of, bind

BODY = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    + wav_bytes(speech(2.0))
    + b"\r\n--b--\r\n"
)
pytestmark = pytest.mark.slow  # most start one process or two
PATIENCE_S = 60.0  # for what must happen; nothing waits so long unless it is broken


class Served:
    """A running service, and what it has said so far."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "e2vsearch", "serve", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        self.said: list[str] = []
        self.connections = contextlib.ExitStack()
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if line.startswith("serving "):
                self._ready.set()
        self._ready.set()

    @property
    def address(self) -> str:
        assert self._ready.wait(PATIENCE_S)
        (address,) = re.findall(r"http://\S+", "".join(self.said))[:1] or [""]
        assert address, self.said
        return str(address)

    def connect(self) -> HTTPConnection:
        netloc = urlsplit(self.address)
        connection = HTTPConnection(netloc.hostname or "", netloc.port, timeout=PATIENCE_S)
        self.connections.callback(connection.close)
        return connection

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        connection = self.connect()
        connection.request("GET", path, headers=headers)
        with connection.getresponse() as response:
            return response.status, response.read().decode()

    def ended(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code


@contextlib.contextmanager
def serving(place: Path, *arguments: str, **environment: str) -> Iterator[Served]:
    served = Served("--index", str(place), "--port", "0", *arguments, **environment)
    try:
        yield served
    finally:
        served.connections.close()
        served.process.kill()
        served.ended()
        assert served.process.stdout is not None
        assert served.process.stdout.read() == ""  # results only, and there is none
        served.process.stdout.close()
        if served.process.stderr is not None:
            served.process.stderr.close()


def begun(served: Served, count: int) -> list[HTTPConnection]:
    """Uploads that the service has let in, and whose second half it still waits for."""
    connections = []
    for _ in range(count):
        connection = served.connect()
        connection.putrequest("POST", "/query/upload")
        connection.putheader("Content-Type", "multipart/form-data; boundary=b")
        connection.putheader("Content-Length", str(len(BODY)))
        connection.endheaders(BODY[:1000])
        connections.append(connection)
    for _ in range(1000):
        if f"e2vsearch_receiving {count}.0" in served.get("/metrics")[1]:
            return connections
    raise AssertionError("the uploads were not let in")


def refused(served: Served) -> None:
    """Return once nobody listens any more."""
    while True:
        try:
            with contextlib.closing(served.connect()) as connection:
                connection.connect()
        except (ConnectionRefusedError, ConnectionResetError):  # reset: it was let in, and closed unheard
            return


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered(place: Path, sign: signal.Signals) -> None:
    with serving(place) as served:
        connections = begun(served, 6)
        served.process.send_signal(sign)
        refused(served)
        for connection in connections:
            connection.send(BODY[1000:])
        for connection in connections:
            with connection.getresponse() as response:
                assert response.status == 200
                assert b'"hits"' in response.read()
        assert served.ended() == 0
        assert served.said[-1] == "ended\n"


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_it_at_once(place: Path, tmp_path: Path, sign: signal.Signals, code: int) -> None:
    with serving(place, TMPDIR=str(tmp_path)) as served:
        begun(served, 1)
        assert [path.name for path in tmp_path.iterdir()]
        served.process.send_signal(sign)
        refused(served)
        served.process.send_signal(sign)
        assert served.ended() == code
        assert list(tmp_path.iterdir()) == []  # nobody's voice is left behind


def test_it_serves_again_after_it_was_killed_and_clears_away(place: Path, tmp_path: Path) -> None:
    """Nothing can be done while it is killed, so the next one removes what was being uploaded."""
    with serving(place, TMPDIR=str(tmp_path)) as served:
        begun(served, 2)
        served.process.kill()
        assert served.ended() == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    (left / "call.wav").write_bytes(b"what was in work")
    with serving(place, TMPDIR=str(tmp_path)) as served:
        assert served.get("/status")[0] == 200
        assert not left.exists()
        begun(served, 1)
        (kept,) = tmp_path.iterdir()
        with serving(place, TMPDIR=str(tmp_path)) as another:
            assert another.get("/status")[0] == 200
            assert kept.exists()  # its service lives


def test_the_key_comes_from_a_file_or_the_environment(place: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a long secret\n")
    key.chmod(0o600)
    with serving(place, "--api-key-file", str(key)) as served:
        assert served.get("/status")[0] == 401
        assert served.get("/status", Authorization="Bearer a long secret")[0] == 200
        assert "secret" not in "".join(served.said)
    with serving(place, "--host", "0.0.0.0", E2VSEARCH_API_KEY="another one") as served:
        address = served.address.replace("0.0.0.0", "127.0.0.1")
        connection = HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", "/status", headers={"X-API-Key": "another one", "Host": "calls.example.org"})
            with connection.getresponse() as response:
                assert response.status == 200


def test_a_key_file_that_others_can_read_is_told(place: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a long secret")
    key.chmod(0o644)
    with serving(place, "--api-key-file", str(key)) as served:
        assert served.address
        assert any("chmod 600" in line for line in served.said)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--host", "0.0.0.0"), 1, "0.0.0.0 can be reached by others"),
        (("--host", "192.0.2.7"), 1, "192.0.2.7 can be reached by others"),
        (("--api-key-file", "nothing"), 2, "nothing cannot be read"),
        (("--root", "nothing"), 2, "nothing is no folder"),
        (("--timeout-s", "0"), 2, "timeout_s is 0"),
    ],
)
def test_what_it_will_not_start_with(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, told: str
) -> None:
    """In this process, as it is refused before anything is opened."""
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_: pytest.fail("it has started"))
    ended = run("serve", "--index", place, "--port", 0, *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.startswith(f"e2vsearch: {told}")


def test_it_will_not_start_without_a_collection(tmp_path: Path) -> None:
    with serving(tmp_path / "nothing") as served:
        assert served.ended() == 1
        assert len(served.said) == 1, served.said
        assert served.said[0].startswith(f"e2vsearch: no collection in {tmp_path / 'nothing'}")


def test_an_empty_key_is_no_key(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_: pytest.fail("it has started"))
    monkeypatch.setenv("E2VSEARCH_API_KEY", "")
    ended = run("serve", "--index", place, "--port", 0, "--host", "0.0.0.0")
    assert ended.code == 2
    assert "an API key is empty" in ended.err


def test_a_port_that_is_taken() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(ServiceError, match="--auto-port"):
            bind("127.0.0.1", port)
        with bind("127.0.0.1", port, auto_port=True) as second:
            assert second.getsockname()[1] > port
        assert address_of(first) == f"http://127.0.0.1:{port}"


def test_names_that_are_no_address() -> None:
    with pytest.raises(ServiceError, match="no address"):
        bind("no such host.invalid", 8080)
    with pytest.raises(ServiceError):
        bind("192.0.2.1", 8080)  # of nobody's machine (RFC 5737)


def test_an_ipv6_address_is_written_as_urls_do() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        opened = bind("::1", 0)
    except ServiceError:
        pytest.skip("this machine has no IPv6 loopback")
    with opened:
        assert address_of(opened).startswith("http://[::1]:")
