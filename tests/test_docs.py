"""What the documents show runs as they show it: README commands in order, its Python, and docstring examples."""

from __future__ import annotations

import doctest
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

import e2vsearch

REPOSITORY = Path(__file__).resolve().parent.parent
README, CHINESE = ((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the samples and nothing else."""
    folder = tmp_path_factory.mktemp("newcomer")
    shutil.copytree(REPOSITORY / "samples", folder / "samples")
    return folder


@dataclass(frozen=True)
class Shown:
    """Something that a document says to type or to run, and what it says is printed."""

    code: str
    printed: str


def commands(text: str) -> list[Shown]:
    """What is typed after a ``$``, with the lines that follow it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            code, _, printed = part.partition("\n")
            found.append(Shown(code, printed))
    return found


def scripts(text: str) -> list[Shown]:
    """Every block of Python, with the block of text that may follow it."""
    pattern = r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?"
    return [Shown(*parts) for parts in re.findall(pattern, text, re.MULTILINE | re.DOTALL)]


def run(code: str, folder: Path, *, shown: bool) -> str:
    """Type a command in that folder; what is shown in the document is what a terminal shows: a table."""
    line = re.sub(r"(^|\| )e2vsearch ", lambda found: f"{found[1]}{sys.executable} -m e2vsearch ", code)
    done = subprocess.run(
        f"{line} -f table" if shown else line, shell=True, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{code}: {done.stderr}"
    return done.stdout


def python(code: str, folder: Path) -> str:
    """Run a script in that folder."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{code}: {done.stderr}"
    return done.stdout


def alike(printed: str) -> Counter[str]:
    """Lines without their numbers and order: int8 kernels differ by CPU in the last digits, and trends by the day."""
    return Counter(re.sub(r"[\d.,]+", "#", " ".join(line.split())) for line in printed.splitlines() if line.strip())


@pytest.mark.slow
def test_readme_runs_and_prints_what_it_shows(newcomer: Path) -> None:
    """Commands in order, then scripts: some ask what the commands made."""
    for package in ("umap", "sklearn", "langchain_core"):
        pytest.importorskip(package, reason="what the README shows needs the extras map, labels and langchain")
    typed = [each for each in commands(README) if re.match(r"(find .*\| )?e2vsearch (?!serve|evaluate)", each.code)]
    assert len(typed) > 20
    for each in typed:
        printed = run(each.code, newcomer, shown=bool(each.printed))
        assert not each.printed or alike(printed) == alike(each.printed), each.code
    ran = scripts(README)
    assert len(ran) == 3
    for each in ran:
        printed = python(each.code, newcomer)
        assert not each.printed or alike(printed) == alike(each.printed), each.code
    assert (newcomer / "hits.csv").read_text().startswith("rank,score,")
    assert len(list((newcomer / "vectors").glob("*.npy"))) >= 12
    assert (newcomer / "backup" / "manifest.json").is_file()
    assert (newcomer / "board.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


@pytest.mark.slow
def test_readme_serves_what_it_shows(newcomer: Path) -> None:
    pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    place = ("--index", str(newcomer / "served"), "-q")
    run(f"e2vsearch ingest samples/calls --encoder light {shlex.join(place)}", newcomer, shown=False)
    command = (sys.executable, "-m", "e2vsearch", "serve", "--port", "0", *place[:2])
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = next(line for line in process.stderr if "http://" in line)
            (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)", said)
            typed = [each.code for each in commands(README) if each.code.startswith("curl")]
            found, moment = (run(code.replace(":8080", f":{port}"), newcomer, shown=False) for code in typed)
        finally:
            process.terminate()
            process.communicate(timeout=30)
    assert json.loads(found)["hits"][0]["name"] in ("outage-angry", "repair-escalating", "cancel-angry")
    assert moment == ""
    assert (newcomer / "moment.wav").read_bytes().startswith(b"RIFF")
    assert process.returncode == 0


def test_chinese_readme_shows_the_same() -> None:
    for of in (commands, scripts):
        english, chinese = (of(text) for text in (README, CHINESE))
        assert chinese
        assert [each for each in chinese if each not in english] == []
    assert [each for each in scripts(README) if each not in scripts(CHINESE)] == []


def test_docstring_examples_run() -> None:
    from e2vsearch import audio, settings, speech
    from e2vsearch.catalog import records

    for module in (e2vsearch, audio, settings, speech, records):
        assert doctest.testmod(module).failed == 0
