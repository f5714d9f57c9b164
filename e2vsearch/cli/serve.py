"""``serve``."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from e2vsearch.cli.options import Device, Index, Precision, Quiet
from e2vsearch.cli.output import note


def serve(
    index: Index = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any but this machine's own needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any that is free.", min=0, max=65535)] = 8080,
    auto_port: Annotated[
        bool, typer.Option("--auto-port", help="Take the next free port if that one is taken.")
    ] = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key that clients must send. Else the variable E2VSEARCH_API_KEY.", metavar="FILE"
        ),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(help="A folder whose files clients may name, may be given several times. None by default."),
    ] = None,
    max_upload_mb: Annotated[float, typer.Option(help="Largest upload, MB.")] = 50.0,
    max_audio_s: Annotated[float, typer.Option(help="Longest recording that is listened to, seconds.")] = 3600.0,
    timeout_s: Annotated[float, typer.Option(help="Longest time that a request may take, seconds.")] = 60.0,
    queue: Annotated[int, typer.Option(help="Requests that may wait for a thread; more are told to come again.")] = 64,
    threads: Annotated[
        int, typer.Option(help="Recordings listened to at a time.  [default: one a core]", min=0, show_default=False)
    ] = 0,
    device: Device = None,
    precision: Precision = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    quiet: Quiet = False,
) -> None:
    """Serve a collection over HTTP: a page to search with, and an API that is described at /docs. Ctrl-C ends it."""
    # before FAISS is loaded: OpenMP threads that spin while they wait take the cores from other requests
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

    from e2vsearch import access
    from e2vsearch.server import require_packages
    from e2vsearch.server.options import ServiceOptions

    require_packages()
    from e2vsearch.server import run

    key = access.read_key(api_key_file)
    access.check_address(host, key)
    options = ServiceOptions(
        api_key=key,
        roots=tuple(root or ()),
        max_upload_mb=max_upload_mb,
        max_audio_s=max_audio_s,
        timeout_s=timeout_s,
        queue=queue,
        threads=threads,
    )
    _log_to_stderr(quiet=quiet)
    import e2vsearch

    with run.bind(host, port, auto_port=auto_port) as opened:
        address = run.address_of(opened)
        with e2vsearch.open(index, create=False, device=device, precision=precision) as collection:

            def ready() -> None:
                note(f"serving {collection.location.named} at {address} - Ctrl-C ends it", quiet=quiet)
                if open_:
                    import webbrowser

                    webbrowser.open(address)

            run.run(collection, options, opened, ready)
    note("ended", quiet=quiet)


def _log_to_stderr(*, quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("e2vsearch", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.WARNING if quiet or name != "e2vsearch" else logging.INFO)
