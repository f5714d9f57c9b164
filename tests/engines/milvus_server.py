"""A real Milvus server, of the ``milvus`` wheel, for a whole run of the tests; it can be killed and started again.

The wheel's own way to start it sleeps and leaves sockets open, so only its configuration and its files are used here.

Milvus listens on every interface and has no setting against it (milvus-io/milvus, issue 26538): its ``ip`` is what its
parts call one another by. So it runs in a network namespace of its own, in which there is nothing but loopback.
A second process there accepts connections on sockets that were bound to 127.0.0.1 outside, and passes them on.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

PARTS = ("proxy", "rootCoord", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")
PORTS = (
    "proxy_port", "proxy_internal_port", "etcd_port", "root_coord_port", "query_coord_port", "query_node_port",
    "index_coord_port", "index_node_port", "data_coord_port", "data_node_port",
)  # fmt: skip


class NoServerError(Exception):
    """There is no Milvus to be had here; the text says why."""


class MilvusServer:
    """One server process with its data in a folder."""

    def __init__(self, folder: Path) -> None:
        """Write its configuration and unpack its program; `start` starts it.

        Raises:
            NoServerError: the wheel is not installed.
        """
        try:
            import milvus
        except ImportError as error:
            raise NoServerError("no Milvus server: pip install milvus, which has 2.3.5") from error
        ports = _free_ports(len(PORTS) + 1)
        config = milvus.MilvusServerConfig(data_dir=str(folder), **dict(zip(PORTS, ports, strict=False)))
        # milliseconds, of 200 and more: nobody else is on this server, and its tests wait for its ticks
        for name in ("proxy.timeTickInterval", "queryCoord.distPullInterval", "queryCoord.checkInterval"):
            config.set(name, 10)
        for name in PARTS:
            config.set(f"{name}.ip", "127.0.0.1")
        milvus.MilvusServer(config, wait_for_started=False)
        config.resolve()
        milvus._initialize_data_files(str(folder))
        self._outside = ports[0], ports[-1]
        self._folder, self._health = folder, f"http://127.0.0.1:{ports[-1]}/healthz"
        self._environment = {**os.environ, "DEPLOY_MODE": "STANDALONE", "METRICS_PORT": str(ports[-1])}
        self._environment |= {"MILVUS_RUN_DIR": str(folder / "run"), "LD_LIBRARY_PATH": str(folder / "bin")}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{ports[0]}"

    def start(self) -> None:
        """Start it, and wait until it says that it is ready.

        Raises:
            NoServerError: it does not.
        """
        listening = [socket.create_server(("127.0.0.1", port)) for port in self._outside]
        passed = [f"{each.fileno()}:{port}" for each, port in zip(listening, self._outside, strict=True)]
        command = ["unshare", "--map-root-user", "--net", sys.executable, __file__]
        command += [",".join(passed), str(self._folder / "bin" / "milvus"), "run", "standalone"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[each.fileno() for each in listening],
                start_new_session=True,
            )
        for each in listening:
            each.close()
        until = time.monotonic() + 180
        while time.monotonic() < until:
            with suppress(OSError, HTTPException), urllib.request.urlopen(self._health, timeout=5) as answer:
                if b"OK" in answer.read():
                    return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.2)
                break
        self.kill()
        raise NoServerError(f"the Milvus server did not start: {self._folder / 'log'} says why")

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _inside(passed: str, command: list[str]) -> None:
    """Become the server, in a namespace whose loopback is down; a child passes on what comes to the sockets."""
    with socket.socket() as any_socket:
        flags = struct.pack("16sh14x", b"lo", 1 | 0x40)  # up and running
        fcntl.ioctl(any_socket, 0x8914, flags)  # SIOCSIFFLAGS
    pairs = [tuple(map(int, each.split(":"))) for each in passed.split(",")]
    if os.fork() == 0:
        try:
            asyncio.run(_pass_on([(socket.socket(fileno=number), port) for number, port in pairs]))
        finally:
            os._exit(1)
    for number, _ in pairs:
        os.close(number)
    os.execv(command[0], command)


async def _pass_on(listening: list[tuple[socket.socket, int]]) -> None:
    async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await reader.read(1 << 20):
                writer.write(part)
                await writer.drain()
        writer.close()

    async def serve(listener: socket.socket, port: int) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                writer.close()
                return
            await asyncio.gather(copied(reader, server_writer), copied(server_reader, writer))

        async with await asyncio.start_server(connected, sock=listener) as server:
            await server.serve_forever()

    await asyncio.gather(*(serve(*each) for each in listening))


if __name__ == "__main__":
    _inside(sys.argv[1], sys.argv[2:])
