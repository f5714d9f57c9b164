"""What the how-to pages on programs around e2vsearch show runs, against a service and a collection of made calls."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import Run
from shown import commands, scripts
from small_collection import make_collection

import e2vsearch
from e2vsearch.integrations.documents import describe, perceive

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = REPOSITORY / "docs" / "howto"
SHOWN_ADDRESS = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Place:
    """A folder with samples and a collection, and the address that it is served at."""

    folder: Path
    address: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    for package in ("fastapi", "prometheus_client", "uvicorn"):
        pytest.importorskip(package, reason="the 'serve' extra is not installed")
    from socket_service import serving

    folder = tmp_path_factory.mktemp("howto")
    shutil.copytree(REPOSITORY / "samples", folder / "samples")
    index = make_collection(folder)
    with e2vsearch.open(index, encoder="fake") as collection, serving(collection) as address:
        yield Place(folder, address)


def ran(page: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each Python block of a page prints."""
    monkeypatch.chdir(place.folder)
    printed = []
    for each in scripts((PAGES / page).read_text(encoding="utf-8")):
        code = each.code.replace(SHOWN_ADDRESS, place.address)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(code, page, "exec"), {"__name__": "__main__"})
        printed.append(said.getvalue())
    return printed


@pytest.mark.slow
def test_the_embeddings_page(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai", reason="openai is not installed")
    assert ran("embeddings-api.md", place, monkeypatch) == ["16 dimensions\n"]
    (command,) = commands((PAGES / "embeddings-api.md").read_text(encoding="utf-8"))
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    words = shlex.split(command.code.replace(SHOWN_ADDRESS, place.address))
    assert '"id":"fake"' in subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_the_client_page(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("httpx", reason="the 'client' extra is not installed")
    printed = ran("client.md", place, monkeypatch)
    assert len(printed) == 4
    assert all(printed)


@pytest.mark.slow
def test_the_telemetry_page(place: Place) -> None:
    """In a process of its own: a provider of traces is set for good."""
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    (script,) = scripts((PAGES / "telemetry.md").read_text(encoding="utf-8"))
    code = script.code.replace('open("index")', 'open("index", encoder="fake")')
    done = subprocess.run([sys.executable, "-c", code], cwd=place.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = re.findall(r'^    "name": "(.*)",$', done.stdout, re.MULTILINE)
    assert (names[0], set(names[1:-1]), names[-1]) == ("embed", {"candidates", "re-score"}, "query")


def test_the_parquet_page(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pandas", "pyarrow", "polars", "duckdb", "datasets"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(place.folder / "cache"))
    typed = commands((PAGES / "parquet.md").read_text(encoding="utf-8"))
    exports = [shlex.split(each.code)[1:] for each in typed if each.code.startswith("e2vsearch export")]
    assert [run(*words).code for words in exports] == [0, 0]
    printed = ran("parquet.md", place, monkeypatch)
    assert "billing" in printed[0]
    assert "Array(Float32, shape=(16,))" in printed[1]
    assert "seg:2" in printed[2] or "seg:3" in printed[2]
    assert "length=16" in printed[3]
    assert "score" in printed[4]


def test_the_page_on_documents(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts that it shows are those of the docstrings' examples, which run."""
    page = (PAGES / "documents.md").read_text(encoding="utf-8")
    lines, rcs = (each.strip() for each in re.findall(r"```text\n(.*?)```", page, re.DOTALL))
    examples = f"{describe.__doc__}{perceive.__doc__}"
    for line in [*lines.replace(" (by light)", "").splitlines(), rcs]:
        assert line in examples
    pytest.importorskip("langchain_core", reason="the 'langchain' extra is not installed")
    (printed,) = ran("documents.md", place, monkeypatch)
    assert len(re.findall(r"^seg:\d+ ", printed, re.MULTILINE)) == 2
