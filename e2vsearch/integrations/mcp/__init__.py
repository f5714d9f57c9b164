"""A collection as an MCP server, for agents: its `tools`, their `results`, and the server over `http`.

Example:
    >>> from e2vsearch.integrations.mcp import make_server  # doctest: +SKIP
    >>> make_server(Retriever(index="index", roots=["clips"])).run()  # doctest: +SKIP
"""

from __future__ import annotations

from e2vsearch.errors import missing_extra

try:
    import mcp  # noqa: F401 - version 1 has no MCPServer, and fails on the import below
    from mcp.server import MCPServer  # noqa: F401
except ImportError as error:
    raise missing_extra("the MCP server", "mcp") from error

from e2vsearch.integrations.mcp.server import make_server

__all__ = ["make_server"]
