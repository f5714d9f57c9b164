"""What the documents show runs as they show it: README commands in order, its Python, and docstring examples."""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import e2vsearch

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the samples and nothing else."""
    folder = tmp_path_factory.mktemp("newcomer")
    shutil.copytree(REPOSITORY / "samples", folder / "samples")
    return folder


def typed(text: str) -> list[str]:
    """What is typed after a ``$`` and calls e2vsearch."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [
        line[2:] for block in blocks for line in block.splitlines() if re.match(r"\$ (find .*\| )?e2vsearch ", line)
    ]


@pytest.mark.slow
def test_readme_commands_run(newcomer: Path) -> None:
    commands = typed(README)
    assert len(commands) > 15
    for command in commands:
        line = re.sub(r"(^|\| )e2vsearch ", lambda found: f"{found[1]}{sys.executable} -m e2vsearch ", command)
        done = subprocess.run(line, shell=True, cwd=newcomer, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert (newcomer / "hits.csv").read_text().startswith("rank,score,")
    assert len(list((newcomer / "vectors").glob("*.npy"))) >= 12
    assert (newcomer / "backup" / "manifest.json").is_file()


@pytest.mark.slow
def test_readme_python_runs(newcomer: Path, tmp_path: Path) -> None:
    [block] = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    shutil.copytree(newcomer / "samples", tmp_path / "samples")
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"0\.\d{4}  \S+  \d+\.\d-\d+\.\d s  \w+\n", done.stdout)


def test_readme_shows_what_is_printed(newcomer: Path) -> None:
    """The table under the first query is the one that these samples give, scores aside: int8 kernels differ by CPU."""
    shown = re.findall(r"^ *\d  0\.\d{4}  (\S+) ", README, re.MULTILINE)
    place = ["--index", str(newcomer / "shown"), "-q"]
    ours = [sys.executable, "-m", "e2vsearch"]
    subprocess.run([*ours, "ingest", "samples/calls", "--encoder", "light", *place], cwd=newcomer, check=True)
    query = [*ours, "query", "samples/angry.ogg", "-k", str(len(shown)), "-f", "csv", *place]
    done = subprocess.run(query, cwd=newcomer, capture_output=True, text=True, check=True)
    found = [line.split(",")[4] for line in done.stdout.splitlines()[1:]]
    assert len(shown) == 5
    assert sorted(found) == sorted(shown)


def test_docstring_examples_run() -> None:
    from e2vsearch import audio, settings, speech
    from e2vsearch.catalog import records

    for module in (e2vsearch, audio, settings, speech, records):
        assert doctest.testmod(module).failed == 0
