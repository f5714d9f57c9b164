"""docs/tutorial.md from its beginning to its end: every command, request and script, in order, as it is shown."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Run
from shown import Document, Shown, Tolerances, commands, scripts

REPOSITORY = Path(__file__).resolve().parent.parent
TUTORIAL = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
STEPS = 9

# on another processor one or two of the samples' 28 segments are named otherwise, and the intervals are others
TOLERANCES = {"e2vsearch trends ": Tolerances(percent=8, count=2, bar=1)}
LOOSE = {"e2vsearch trends ": (r"\b\d+–\d+\b", "an interval")}  # noqa: RUF001 - an en dash


def blocks(text: str) -> Iterator[Shown]:
    """Commands and scripts of a document, in its order."""
    for block in re.findall(
        r"^```(?:console|python)\n.*?^```\n(?:\n```text\n.*?^```\n)?", text, re.MULTILINE | re.DOTALL
    ):
        yield from commands(block) or scripts(block)


def differences(document: Document, each: Shown, printed: str) -> list[str]:
    """Return what is not as it is shown; a command without output may print anything."""
    if not each.printed:
        return []
    start = next((start for start in TOLERANCES if each.code.startswith(start)), "")
    texts = each.printed, printed
    if start in LOOSE:
        texts = re.sub(*LOOSE[start], each.printed), re.sub(*LOOSE[start], printed)
    return [f"{each.code}\n{found}" for found in document.differences(*texts, TOLERANCES.get(start))]


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serve the collection in `index` on a free port; gives the port."""
    command = (sys.executable, "-m", "e2vsearch", "serve", "--port", "0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = next(line for line in process.stderr if "http://" in line)
            yield re.findall(r"http://127\.0\.0\.1:(\d+)", said)[0]
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.mark.slow
def test_an_hour_runs_as_it_is_shown(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("umap", "sklearn", "bokeh", "fastapi"):
        pytest.importorskip(package, reason="the tutorial installs the extras map, labels and serve")
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    shutil.copytree(REPOSITORY / "samples", tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    document, wrong, asked = Document(), [], ""
    with contextlib.ExitStack() as stack:
        port = ""
        for each in blocks(TUTORIAL):
            if each.code == "e2vsearch serve":
                port = stack.enter_context(serving())
            elif each.code.startswith("curl "):
                words = shlex.split(each.code.replace(":8080", f":{port}"))
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                asked = asked or done.stdout
            elif each.code.startswith("e2vsearch "):
                table = ("-f", "table") if each.printed else ()
                ran = run(*shlex.split(each.code)[1:], *table)
                assert ran.code == 0, f"{each.code}: {ran.err}"
                wrong += differences(document, each, ran.out)
            else:
                stack.close()  # Ctrl-C ends it
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    exec(compile(each.code, "tutorial.md", "exec"), {"__name__": "__main__"})
                wrong += differences(document, each, said.getvalue())
    assert wrong == []
    assert json.loads(asked)["hits"][0]["name"] == "repair-escalating"
    assert Path("segment.wav").read_bytes().startswith(b"RIFF")
    assert Path("shout.wav").read_bytes().startswith(b"RIFF")
    assert Path("board.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert json.loads(Path("about.json").read_text(encoding="utf-8"))["recording"]["name"] == "cancel-angry"
    assert Path("copies", "today.db").is_file()


def test_every_step_is_typed_and_has_a_note_for_ones_own_calls() -> None:
    steps = re.split(r"^## (?=\d)", TUTORIAL, flags=re.MULTILINE)
    assert len(steps) == STEPS + 1
    for step in steps[1:]:
        assert commands(step), step.partition("\n")[0]
        assert "> *With yours:*" in step, step.partition("\n")[0]
    minutes = re.findall(r"^\| (\d+) \| \[", TUTORIAL, re.MULTILINE)
    assert len(minutes) == STEPS
    assert sum(map(int, minutes)) == 60


def test_what_the_filter_and_the_table_say_is_what_is_quoted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that the tutorial tells of, outside its commands."""
    shown = re.findall(r"```text\n(file,queue.*?)```", TUTORIAL, re.DOTALL)
    table = (REPOSITORY / "samples" / "calls.csv").read_text(encoding="utf-8").splitlines()
    assert [line for each in shown for line in each.splitlines() if line not in table] == []
    monkeypatch.chdir(tmp_path)
    calls = REPOSITORY / "samples" / "calls"
    meta = ("--meta", REPOSITORY / "samples" / "calls.csv")
    assert run("ingest", calls / "billing-calm.ogg", "--encoder", "light", *meta).code == 0
    (hint,) = re.findall(r"prints on stderr `(.*)`", TUTORIAL)
    assert hint in run("query", "seg:1", "--where", "queue = biling").err
