"""A real Milvus server, of the ``milvus`` wheel, for a whole run of the tests; it can be killed and started again.

The wheel's own way to start it sleeps and leaves sockets open, so only its configuration and its files are used here.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

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
        milvus.MilvusServer(config, wait_for_started=False)
        config.resolve()
        milvus._initialize_data_files(str(folder))
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
        command = [str(self._folder / "bin" / "milvus"), "run", "standalone"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        until = time.monotonic() + 180
        while time.monotonic() < until:
            with suppress(OSError), urllib.request.urlopen(self._health, timeout=5) as answer:
                if b"OK" in answer.read():
                    return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.2)
                break
        self.kill()
        raise NoServerError(f"the Milvus server did not start: {self._folder / 'log'} says why")

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
