"""The service of an open collection behind a socket, run by a thread of the test's own process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from e2vsearch.collection import Collection
from e2vsearch.server import create_app
from e2vsearch.server.options import ServiceOptions


@contextmanager
def serving(collection: Collection, **options: Any) -> Iterator[str]:
    """Serve, and give the address."""
    app = create_app(collection, ServiceOptions(**options))
    with socket.create_server(("127.0.0.1", 0)) as opened:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        thread = threading.Thread(target=server.run, args=([opened],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{opened.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
