"""``e2vsearch demo``: what it finds, the folder that it keeps to, and how it stops and goes on."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from command import Run

import e2vsearch
from e2vsearch.cli.demo import FOLDER, samples

REPOSITORY = Path(__file__).resolve().parent.parent
DEMO = (sys.executable, "-m", "e2vsearch", "demo")


class Made(NamedTuple):
    """A demo that was typed: its folder, and what was printed."""

    folder: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Typed where settings name another collection and another encoder."""
    above = tmp_path_factory.mktemp("newcomer")
    settings = {"E2VSEARCH_INDEX": "another", "E2VSEARCH_ENCODER": "saved"}
    surroundings = {**os.environ, "PYTHONPATH": str(REPOSITORY), **settings}
    done = subprocess.run(DEMO, cwd=above, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in above.iterdir()] == [str(FOLDER)]
    return Made(above / FOLDER, done.stdout, done.stderr)


@pytest.fixture
def folder(made: Made, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return shutil.copytree(made.folder, tmp_path / "demo")


@pytest.mark.slow
def test_it_finds_the_agitated_calls_first(made: Made, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By arousal, which is all that synthetic speech can carry; no agent is analysed."""
    monkeypatch.chdir(made.folder)
    with e2vsearch.open("index") as collection:
        roles = {recording.id: recording.roles for recording in collection.recordings()}
        analysed = {(roles[segment.recording] or ())[segment.channel] for segment in collection.segments()}
    assert analysed == {"customer"}
    names = [row["name"] for row in run("query", "samples/angry.ogg", "-k", 12).rows]
    agitated = ("refund-shouting", "cancel-angry", "repair-escalating", "parcel-tense", "outage-angry")
    quiet = [name for name in names if name.endswith(("-calm", "-sad"))]
    assert max(map(names.index, agitated)) < min(map(names.index, quiet))
    assert names[0].endswith(("-angry", "-shouting", "-escalating"))
    assert len(names) == len(list((REPOSITORY / "samples" / "calls").iterdir()))


@pytest.mark.slow
def test_what_it_shows_can_be_typed_again_in_its_folder(made: Made, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both commands that it typed, and those that it names as the next ones."""
    monkeypatch.chdir(made.folder)
    typed = re.findall(r"^\$ e2vsearch (.+)$", made.out, re.MULTILINE)
    assert [each.split()[0] for each in typed] == ["ingest", "query"]
    assert made.out.splitlines()[2] == "index: 12 stored"
    assert run(*shlex.split(typed[0]), "-f", "table").out == "index: 0 stored, 12 already there\n"
    assert made.out.endswith(run(*shlex.split(typed[1]), "-f", "table").out)
    following = re.findall(r"^  e2vsearch (.+)$", made.err, re.MULTILINE)
    for each in following:
        assert each == "serve --open" or run(*shlex.split(each)).code == 0, each
    assert len(following) >= 2
    assert f"cd {FOLDER}" in made.err
    assert max(map(len, [*made.out.splitlines(), *made.err.splitlines()])) <= 80
    assert "E2VSEARCH_ENCODER, E2VSEARCH_INDEX" in made.err


@pytest.mark.slow
def test_a_second_one_goes_on_and_overwrites_nothing(folder: Path, run: Run) -> None:
    changed, missing = folder / "samples" / "calls.csv", folder / "samples" / "angry.ogg"
    changed.write_text(changed.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    before = changed.read_bytes()
    missing.unlink()
    done = run("demo", folder, "-q")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("index: 0 stored, 12 already there\n")
    assert changed.read_bytes() == before
    assert missing.read_bytes() == (samples() / "angry.ogg").read_bytes()


@pytest.mark.slow
def test_it_is_removed_but_for_what_is_not_its_own(folder: Path, run: Run) -> None:
    (folder / "mine.txt").touch()
    assert run("demo", folder, "--remove").err == f"removed the demo in {folder}\n"
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    assert run("demo", folder, "--remove").code == 2
    (folder / "mine.txt").unlink()
    (folder / "DEMO.txt").write_text("Made by e2vsearch demo, and removed by e2vsearch demo --remove.\n")
    assert run("demo", folder, "--remove").code == 0
    assert not folder.exists()


@pytest.mark.parametrize("theirs", ["demo/index/catalog.db", "demo/DEMO.txt", "demo"])
def test_what_is_not_its_own_is_left_alone(theirs: str, tmp_path: Path, run: Run) -> None:
    path = tmp_path / theirs
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine", encoding="utf-8")
    for words, said in (((), "is there, and no demo's"), (("--remove",), "nothing is removed")):
        done = run("demo", tmp_path / "demo", *words)
        assert (done.code, done.out) == (2, "")
        assert said in " ".join(done.err.split())
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*") if each.is_file()] == [theirs]
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_demo_that_is_not_there_is_not_taken_for_somebody_elses(tmp_path: Path, run: Run) -> None:
    done = run("demo", tmp_path / "demo", "--remove")
    assert (done.code, done.out) == (2, "")
    assert "so that nothing is removed: name the demo's folder" in " ".join(done.err.split())


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").touch()
    done = run("demo", tmp_path / "file" / "demo")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "cannot be written" in done.err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another thing there")
def test_ctrl_c_ends_it_and_a_second_run_ends_what_is_left(tmp_path: Path, run: Run) -> None:
    """As a terminal does it: the signal goes to the whole group."""
    (tmp_path / "empty").mkdir()
    with subprocess.Popen(
        (*DEMO, "empty"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("$ e2vsearch ingest"))
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "failed" not in err
    assert "interrupted" in err.splitlines()[-1]
    assert run("demo", tmp_path / "empty", "-q").code == 0
    with e2vsearch.open(tmp_path / "empty" / "index") as collection:
        assert len(collection.recordings()) == 12
