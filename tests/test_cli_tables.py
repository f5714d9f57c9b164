"""Tables of every command at 80 columns: a snapshot of each, and no line is longer, whatever it is about.

Snapshots are files of `tests/snapshots`, with every digit as 0, since it is the layout that they hold. Write them anew
with ``WRITE_SNAPSHOTS=1 pytest tests/test_cli_tables.py``, and look at the difference.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from command import Run
from hypothesis import given
from hypothesis import strategies as st
from made import save, speech
from made_names import LABELS, fill
from rich.cells import cell_len
from rich.text import Text

from e2vsearch.cli import app
from e2vsearch.cli.emotion import bar
from e2vsearch.cli.table import Column, draw, shortened

SNAPSHOTS = Path(__file__).parent / "snapshots"
WIDTH = 80

TABLES = {
    "query": "query seg:1 -k 5",
    "query-explain": "query seg:1 seg:5 --avoid seg:9 -k 3 --explain",
    "query-trajectory": "query --trajectory call:2 -k 2",
    "query-vectors": "query seg:1 --include-self -k 1 --named-vector *=0.5",
    "calls": "calls -k 5",
    "encoders": "encoders",
    "plugins": "plugins",
    "trends": "trends",
    "status": "status",
    "failures": "failures",
    "remove": "remove call:1 call:2 call:3 --dry-run",
    "audit": "audit",
    "policy-show": "policy",
    "policy-set": "policy set --retention-days 30",
    "queue-show": "queue",
    "label-add": "label calm seg:4",
    "label-list": "label list",
    "label-list-of": f"label list '{LABELS[0]}'",
    "label-suggest": "label suggest -k 4",
    "train": "train mood",
    "classify": "classify mood",
    "classifier-list": "classifier list",
    "classifier-import": "classifier import mood.npz",
    "map-build": "map --min-cluster-size 4",
    "map-show": "map show",
    "map-place": "map place",
    "map-list": "map list",
    "index-build": "index build --kind ivf-flat",
    "index-tune": "index tune",
    "index-status": "index",
    "db-history": "db history",
    "db-verify": "db verify",
    "projection-list": "projection list",
    "projection-fit": "projection fit labels.csv",
    "projection-compare": "projection compare labels.csv",
    "vectors-list": "vectors list",
    "evaluate": "evaluate labels.csv --index index --draws 50",
}
"""What is typed for each snapshot, in a folder with ``index`` and ``labels.csv``."""

BEFORE = {
    "classify": "train mood",
    "classifier-list": "train mood",
    "classifier-import": "train mood && classifier export mood mood.npz",
    "map-show": "map --min-cluster-size 4",
    "map-place": "map --min-cluster-size 4",
    "map-list": "map --min-cluster-size 4 --name a-map-of-all-the-calls-of-the-whole-year-2024 --where 'channel = 0'",
    "index-tune": "index build --kind ivf-flat",
    "index-status": "index build --kind ivf-flat",
    "projection-list": "projection fit labels.csv --name a-projection-of-a-long-name-for-a-table",
    "projection-compare": "projection fit labels.csv",
}
"""What is typed before."""

EXTRAS = {"train": "sklearn", "class": "sklearn", "map": "umap", "label-suggest": "sklearn", "projection-": "sklearn"}

LINES = {
    *("ingest", "worker", "forget", "backup", "export", "import", "queue retry", "queue clear", "db upgrade"),
    *("db current", "index drop", "index verify", "label remove", "classifier remove", "classifier export"),
    *("map drop", "projection use", "projection drop", "vectors attach", "vectors detach", "reembed"),
}
"""Commands that print a line as their table: what they did."""

ELSEWHERE = {"doctor", "embed", "about", "compare", "show"}
"""Commands whose tables have a test of their own: below, and of `show` in test_cli_show.py."""


def every_command(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, each in command.commands.items():
        if hasattr(each, "commands"):
            yield from every_command(each, (*path, name))
        else:
            yield " ".join((*path, name)), each


def test_every_command_that_prints_has_a_snapshot() -> None:
    printing = {
        name
        for name, each in every_command(typer.main.get_command(app))
        if any("--format" in param.opts for param in each.params)
    }
    shown = {name for name in printing if name.replace(" ", "-") in TABLES}
    assert printing - shown == LINES | ELSEWHERE, "a new table needs a snapshot: a line in TABLES"
    assert {path.stem for path in SNAPSHOTS.glob("*.txt")} == TABLES.keys()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    fill(folder / "index")
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the collection, in the working folder."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


def words(line: str) -> list[str]:
    return [each.replace("*", "vectors-of-words-of-another-model-altogether") for each in shlex.split(line)]


def too_long(text: str, width: int = WIDTH) -> list[str]:
    return [line for line in text.splitlines() if cell_len(line) > width]


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=pytest.mark.slow) if each.startswith("map") else each for each in TABLES],
)
def test_a_table_is_as_it_was(name: str, place: Path, run: Run) -> None:
    for start, package in EXTRAS.items():
        if name.startswith(start):
            pytest.importorskip(package, reason="needs an extra")
    for each in filter(None, BEFORE.get(name, "").split(" && ")):
        done = run(*words(each))
        assert done.code == 0, done.err
    done = run(*words(TABLES[name]), "--format", "table")
    assert done.code == 0, done.err
    assert too_long(done.out) == []
    layout = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=@)[0-9a-f]{12}", lambda found: "0" * len(found[0]), done.out)
    layout = re.sub(r"(?<=Z-)[0-9a-f]{8}|\d", lambda found: "0" * len(found[0]), layout)
    layout = re.sub(r"[▁▂▃▄▅▆▇█]{6,}", lambda found: "▁" * len(found[0]), layout)
    if name in ("map-build", "map-show", "map-place"):  # which segment is in the middle depends on the processor
        layout = re.sub(r"(listen to|seg:)0* .*", r"\1", layout)
    if os.environ.get("WRITE_SNAPSHOTS"):
        (SNAPSHOTS / f"{name}.txt").write_text(layout, encoding="utf-8")
    assert layout == (SNAPSHOTS / f"{name}.txt").read_text(encoding="utf-8")


def test_those_that_depend_on_the_machine_fit(place: Path, run: Run) -> None:
    assert too_long(run("doctor", "--index", "index", "-f", "table").out) == []
    assert too_long(run("about", "call:1", "-f", "table").out) == []
    (place / "in").mkdir()
    save(place / "in" / f"{'a-long-name-' * 6}.wav", speech(1.5))
    (clip,) = (place / "in").iterdir()
    done = run("embed", "in", "-o", "out", "--encoder", "fake", "--similar-to", clip, "-f", "table")
    assert (done.code, too_long(done.out)) == (0, []), done.err
    done = run("compare", clip, clip, "--encoder", "fake", "--index", "none", "-f", "table")
    assert (done.code, too_long(done.out)) == (0, []), done.err


# --- the table itself

TEXT = st.text(max_size=60)
COLUMNS = {"n": "#>", "score": "score>", "name": "recording~", "at": "at", "why": "why…", "id": "id"}


@pytest.mark.slow
@given(
    rows=st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1, 1), TEXT, TEXT), min_size=1, max_size=5),
    width=st.integers(72, 120),
)
def test_any_names_fit_and_numbers_stay_whole(rows: list[tuple[int, float, str, str]], width: int) -> None:
    at = "1:02:03.4–1:02:07.9"  # noqa: RUF001 - as times are printed
    cells = [
        {"n": n, "score": f"{score:.4f}", "name": name, "at": at, "why": why, "id": f"seg:{n}", "words": name}
        for n, score, name, why in rows
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        text = draw(cells, {**COLUMNS, "words": Column(fit="end", below=True)}, terminal=False)
    assert too_long(text, width) == []
    lines = text.splitlines()[1:]
    for row in cells:
        line = next(line for line in lines if f"seg:{row['n']}" in line.split())
        assert at in line
    assert sum(at in line for line in lines) == len(cells)


def test_a_terminal_gets_the_same_with_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    rows = [{"emotion": bar("angry", 0.62), "words": "said"}]
    columns: dict[str, str | Column] = {"emotion": "emotion", "words": Column(fit="end", below=True)}
    plain, coloured = (draw(rows, columns, terminal=terminal) for terminal in (False, True))
    assert plain == "emotion\n███·· angry\n   said\n"
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert "38;" not in draw(rows, columns, terminal=True)


def test_an_emotion_has_its_name_beside_its_colour() -> None:
    assert [str(bar(*each)) for each in (("angry", 1.0), ("sad", 0.5), ("unsure", None), (None, None))] == [
        "█████ angry",
        "██▌·· sad",
        "····· unsure",
        "",
    ]


def test_names_are_shortened_in_their_middle() -> None:
    assert shortened("2024-03-11_0042_billing", 12) == "2024-0…lling"
    assert shortened("客户投诉北京三月", 9) == "客户…三月"
    assert cell_len(shortened("party-🎉🎉🎉🎉🎉-call", 12)) <= 12
    assert shortened("short", 12) == "short"


def test_wide_terminals_show_what_narrow_ones_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": "n" * 70, "pct": Text("97.4")}]
    columns: dict[str, str | Column] = {"name": Column("name"), "pct": Column("pct", right=True, optional=True)}
    for width, heading in ((74, "name"), (80, "name" + " " * 68 + " pct")):
        monkeypatch.setenv("COLUMNS", str(width))
        assert draw(rows, columns, terminal=False).splitlines()[0] == heading
