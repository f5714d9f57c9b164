"""``e2vsearch mcp``: the collection as a server for agents. stdout belongs to the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.options import EncodingOptions, Quiet
from e2vsearch.cli.output import note

Transport = Literal["stdio", "http"]


@command("mcp --index index --root clips/", "mcp --transport http --port 8766 --api-key-file key.txt")
def mcp(
    transport: Annotated[
        Transport, typer.Option(help="Started by its client and used over stdin and stdout, or listening.")
    ] = "stdio",
    root: Annotated[
        list[str] | None,
        typer.Option(
            help="A folder from which clients may name clips, or a URL such as s3://bucket/calls/; stored recordings "
            "are played from these alone. Repeatable.  [default: none, and what is stored is played]",
            metavar="DIR|URL",
        ),
    ] = None,
    documents: Annotated[
        Literal["lines", "rcs"],
        typer.Option(
            help="Text of a hit: lines of what is known, or one of words headed by emotion, as Pipecat's Real-time "
            "Context Standard writes it."
        ),
    ] = "lines",
    host: Annotated[str, typer.Option(help="Address to listen on; other machines can reach it only with a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65_535)] = 8766,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key that clients must send as Authorization: Bearer KEY.  [default: E2VSEARCH_API_KEY]",
            metavar="FILE",
        ),
    ] = None,
    *,
    options: EncodingOptions,
    quiet: Quiet = False,
) -> None:
    """Serve a collection to agents. The Model Context Protocol finds them segments, recordings and clusters."""
    from e2vsearch.integrations.mcp import make_server
    from e2vsearch.integrations.retriever import Retriever

    with options.open() as collection:
        server = make_server(Retriever(collection, roots=root or (), document_format=documents))
        if transport == "stdio":
            server.run("stdio")
            return
        from e2vsearch.access import read_key
        from e2vsearch.integrations.mcp.http import HttpOptions, serve

        listening = HttpOptions(host, port, read_key(api_key_file))
        serve(server, listening, lambda url: note(f"listening on {url}", quiet=quiet))
