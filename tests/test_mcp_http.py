"""The MCP server over HTTP: keys, names of other pages, and what goes wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_collection import make_collection

pytest.importorskip("mcp.server.mcpserver", reason="the 'mcp' extra is not installed")

from mcp.client.streamable_http import streamable_http_client
from opened_mcp import COMMAND, TOOLS, connected

from e2vsearch.errors import ServiceError
from e2vsearch.integrations.mcp import make_server
from e2vsearch.integrations.mcp.http import HttpOptions, application, serve
from e2vsearch.integrations.retriever import Retriever

pytestmark = pytest.mark.slow  # most tests start a process


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("mcp"))


@contextmanager
def over_http(place: Path, *options: str, **environ: str) -> Iterator[str]:
    """The URL of a running server on a free port."""
    command = [sys.executable, *COMMAND, "--transport", "http", "--port", "0", "--index", str(place), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ}) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            found = re.search(r"listening on (http\S+)", line)
            assert found, line
            yield found[1]
        finally:
            server.terminate()


async def test_a_client_asks_over_http(place: Path) -> None:
    with over_http(place) as url:
        assert url.startswith("http://127.0.0.1:")
        async with connected(url) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
            found = await client.call_tool("find_similar", {"reference": "seg:1", "k": 1})
            assert len(found.structured_content["hits"]) == 1


async def test_only_who_has_the_key_may_ask(place: Path, tmp_path: Path) -> None:
    import httpx2

    (tmp_path / "key").write_text("open sesame\n", encoding="utf-8")
    (tmp_path / "key").chmod(0o600)
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    accept = {"Accept": "application/json, text/event-stream"}
    with over_http(place, "--api-key-file", str(tmp_path / "key")) as url:
        async with httpx2.AsyncClient() as http:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": ""}, {"Authorization": "open sesame"}):
                refused = await http.post(url, json=ping, headers=headers | accept)
                assert refused.status_code == 401
                assert refused.json()["error"]["reason"] == "key"
        for headers in ({"Authorization": "Bearer open sesame"}, {"X-API-Key": "open sesame"}):
            async with (
                httpx2.AsyncClient(headers=headers) as http,
                connected(streamable_http_client(url, http_client=http)) as client,
            ):
                assert len((await client.list_tools()).tools) == len(TOOLS)


async def test_names_of_other_pages_are_refused(place: Path) -> None:
    import httpx2

    with over_http(place) as url:
        async with httpx2.AsyncClient() as http:
            accept = {"Accept": "application/json, text/event-stream"}
            ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            for foreign in (
                {"Host": "evil.example:80"},
                {"Host": "127.0.0.1:80.evil"},
                {"Origin": "https://evil.example"},
                {"Origin": "http://127.0.0.1:3000"},  # a page of another service of this machine
                {"Sec-Fetch-Site": "cross-site"},
            ):
                refused = await http.post(url, json=ping, headers=accept | foreign)
                assert refused.status_code == 403
                assert refused.json()["error"]["reason"] in ("host", "origin")


def test_other_machines_need_a_key(place: Path) -> None:
    server = make_server(Retriever(index=place, roots=()))
    for host in ("0.0.0.0", "::", "192.0.2.7", "calls.example.org", ""):
        with pytest.raises(ServiceError, match="can be reached by others"):
            application(server, HttpOptions(host))
        assert application(server, HttpOptions(host, key="x"))  # type: ignore[truthy-function]
    assert application(server, HttpOptions("localhost"))  # type: ignore[truthy-function]


def test_a_taken_port_is_one_line(place: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"{port} cannot be listened on"):
            serve(make_server(Retriever(index=place, roots=())), HttpOptions(port=port))
