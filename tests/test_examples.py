"""The examples run as they are written, over the sample calls."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from shown import Document

pytestmark = pytest.mark.slow  # four frameworks are imported
REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = (REPOSITORY / "docs" / "howto" / "rag.md").read_text(encoding="utf-8")
README = (REPOSITORY / "examples" / "README.md").read_text(encoding="utf-8")
CHAIN = "examples/rag_over_calls.py"
NEEDS = {"langchain": "langchain_core", "llama_index": "llama_index.core", "haystack": "haystack", "mcp": "mcp"}


def blocks(language: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with samples, examples, and the collection that the folder's README makes first."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("samples", "examples"):
        shutil.copytree(REPOSITORY / name, folder / name)
    first = shlex.split(blocks("console", README)[0].splitlines()[0])
    command = [sys.executable, "-m", *first[1:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def python(newcomer: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a script in that folder, in this process, which imports each framework once; gives what it prints."""
    monkeypatch.chdir(newcomer)
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")

    def run(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        printed = io.StringIO()  # not capsys: mcp keeps the stderr that it is imported under, which must be a file
        with contextlib.redirect_stdout(printed):
            runpy.run_path(script, run_name="__main__")
        return printed.getvalue()

    return run


def test_the_page_shows_what_a_model_is_given(newcomer: Path) -> None:
    from e2vsearch.collection import Collection
    from e2vsearch.integrations.documents import describe

    [shown] = blocks("text")
    with Collection.open(newcomer / "index") as collection:
        [hit] = collection.query(newcomer / "samples" / "angry.ogg", k=1, where="name = refund-shouting")
        written = describe(hit, collection.space)
    assert Document().differences(shown, written) == []


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_of_the_page_runs(newcomer: Path, number: int, python: Callable[..., str]) -> None:
    code = blocks("python")[number]
    [room] = re.findall(r"^from e2vsearch\.integrations\.(langchain|llama_index|haystack|mcp) ", code, re.MULTILINE)
    pytest.importorskip(NEEDS[room], reason=f"the {room!r} extra is not installed")
    (newcomer / "block.py").write_text(code, encoding="utf-8")
    printed = python("block.py")
    names = {path.stem for path in (newcomer / "samples" / "calls").iterdir()}
    assert sum(name in printed for name in names) >= 2


def test_every_integration_has_its_example() -> None:
    rooms = {path.stem for path in (REPOSITORY / "e2vsearch" / "integrations").iterdir() if path.stem in NEEDS}
    assert rooms == set(NEEDS)
    assert {
        found for code in blocks("python") for found in re.findall(r"e2vsearch\.integrations\.(\w+)", code)
    } >= rooms


def test_the_configuration_starts_a_server(newcomer: Path) -> None:
    pytest.importorskip("mcp.server.mcpserver", reason="the 'mcp' extra is not installed")
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    [server] = json.loads(blocks("json")[0])["mcpServers"].values()
    assert server["command"] == "e2vsearch"
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "e2vsearch", *server["args"]],
        cwd=newcomer,
        env={"PYTHONPATH": str(REPOSITORY)},
    )

    async def ask() -> list[str]:
        async with Client(stdio_client(parameters)) as client:
            found = await client.call_tool("find_similar", {"reference": "angry.ogg", "k": 3})
            return [hit["name"] for hit in found.structured_content["hits"]]

    agitated = {"refund-shouting", "cancel-angry", "repair-escalating", "parcel-tense", "outage-angry"}
    assert set(asyncio.run(ask())) <= agitated


def test_the_chain_answers_from_what_it_found(python: Callable[..., str]) -> None:
    pytest.importorskip("langchain_core", reason="the 'langchain' extra is not installed")
    printed = python(CHAIN)
    question, segments, prompt, answer = re.split(r"^(?:SEGMENTS|PROMPT|ANSWER)\b.*\n", printed, flags=re.MULTILINE)
    assert question.startswith("QUESTION\nWhat do these callers want?")
    found = re.findall(r"(seg:\d+) +(\S+)", segments)
    assert len(found) == 3
    for segment, name in found:
        assert f'[{segment}] recording "{name}"' in prompt
        assert f"[{segment}]" in answer
        [text] = re.findall(rf'\[{segment}\].*\n.*\n.*\n.*\ntext: (".*")$', prompt, re.MULTILINE)
        assert text in answer
    assert prompt.rstrip().endswith("Question: What do these callers want?")


def test_the_chain_says_so_when_nothing_was_found(python: Callable[..., str]) -> None:
    pytest.importorskip("langchain_core", reason="the 'langchain' extra is not installed")
    options = ("--clip", "emotion:sad", "--where", "channel = 7", "--index", "index")
    assert "Nothing in the segments" in python(CHAIN, *options)
