"""A real Milvus server, of the ``milvus`` wheel, for a whole run of the tests; it can be killed and started again."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path


class NoServerError(Exception):
    """There is no Milvus to be had here; the text says why."""


class MilvusServer:
    """One server process with its data in a folder."""

    def __init__(self, folder: Path) -> None:
        """Write its configuration; `start` starts it.

        Raises:
            NoServerError: the wheel is not installed.
        """
        try:
            from milvus import MilvusServer as Wheel
            from milvus import MilvusServerConfig
        except ImportError as error:
            raise NoServerError("no Milvus server: pip install milvus, which has 2.3.5") from error
        ports = {name: _free_port() for name in ("proxy_port", "etcd_port", "root_coord_port", "query_coord_port")}
        ports |= {name: _free_port() for name in ("index_coord_port", "data_coord_port", "query_node_port")}
        ports |= {name: _free_port() for name in ("data_node_port", "index_node_port", "proxy_internal_port")}
        config = MilvusServerConfig(data_dir=str(folder), **ports)
        # milliseconds, of 200 and more: nobody else is on this server, and its tests wait for its ticks
        for name in ("proxy.timeTickInterval", "queryCoord.distPullInterval", "queryCoord.checkInterval"):
            config.set(name, 50)
        self._wheel = Wheel(config, wait_for_started=False)
        self._wheel.set_base_dir(str(folder))
        self._wheel.webservice_port = _free_port()
        self.url = f"http://127.0.0.1:{ports['proxy_port']}"

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        self._wheel.start()
        until = time.monotonic() + 180
        health = f"http://127.0.0.1:{self._wheel.webservice_port}/healthz"
        while time.monotonic() < until:
            with suppress(OSError), urllib.request.urlopen(health, timeout=5) as answer:
                if b"OK" in answer.read():
                    return
            with suppress(subprocess.TimeoutExpired):
                self._wheel.server_proc.wait(timeout=0.2)
                break
        raise NoServerError("the Milvus server did not start")

    def kill(self) -> None:
        """End it at once."""
        self._wheel.server_proc.kill()
        self._wheel.server_proc.wait()
        self._wheel.stop()

    def stop(self) -> None:
        """End it."""
        self._wheel.stop()


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
