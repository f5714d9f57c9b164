"""``serve``: the HTTP service and its page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.logs import log_to_stderr
from e2vsearch.cli.options import EncodingOptions, Quiet
from e2vsearch.cli.output import note


@command("serve --open", "serve --host 0.0.0.0 --api-key-file key.txt --root clips/")
def serve(
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
        list[str] | None,
        typer.Option(
            help="A folder whose files clients may name, or a URL such as s3://bucket/calls/; outside these no stored "
            "recording is played, and one on a web server in none but these. Repeatable.",
            metavar="DIR|URL",
        ),
    ] = None,
    max_upload_mb: Annotated[float, typer.Option(help="Largest upload, MB.")] = 50.0,
    max_audio_s: Annotated[float, typer.Option(help="Longest recording that is embedded, seconds.")] = 3600.0,
    timeout_s: Annotated[float, typer.Option(help="Longest time that a request may take, seconds.")] = 60.0,
    queue: Annotated[int, typer.Option(help="Requests that may wait for a thread; more are refused with 503.")] = 64,
    threads: Annotated[
        int, typer.Option(help="Recordings embedded at a time.  [default: one a core]", min=0, show_default=False)
    ] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    *,
    options: EncodingOptions,
    quiet: Quiet = False,
) -> None:
    """Serve a collection over HTTP. There is a page, and an API that is described at /docs. Ctrl-C ends it."""
    # before FAISS is loaded: OpenMP threads that spin while they wait take the cores from other requests
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

    from e2vsearch import access
    from e2vsearch.server import require_packages
    from e2vsearch.server.options import ServiceOptions

    require_packages()
    from e2vsearch.server import run

    key = access.read_key(api_key_file)
    access.check_address(host, key)
    service = ServiceOptions(
        api_key=key,
        roots=tuple(root or ()),
        max_upload_mb=max_upload_mb,
        max_audio_s=max_audio_s,
        timeout_s=timeout_s,
        queue=queue,
        threads=threads,
    )
    log_to_stderr("e2vsearch", "text", quiet=quiet)
    log_to_stderr("uvicorn.error", "text", quiet=True)

    with run.bind(host, port, auto_port=auto_port) as opened:
        address = run.address_of(opened)
        with options.open() as collection:

            def ready() -> None:
                note(f"serving {collection.location.named} at {address} - Ctrl-C ends it", quiet=quiet)
                if open_:
                    import webbrowser

                    webbrowser.open(address)

            run.run(collection, service, opened, ready)
    note("ended", quiet=quiet)
