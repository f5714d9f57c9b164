"""The MCP server for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client

TOOLS = {"find_similar", "get_recording", "compare", "list_labels", "list_maps", "describe_cluster"}
COMMAND = ("-m", "e2vsearch", "mcp", "--encoder", "fake")


@asynccontextmanager
async def connected(server: Any) -> AsyncIterator[Client]:
    async with asyncio.timeout(60), Client(server) as client:
        yield client
