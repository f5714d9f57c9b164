"""Commands in groups and panels: one way for all, old flags named with what took their place, one set of options."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from command import Run
from small_collection import make_collection

import e2vsearch
from e2vsearch.cli import app
from e2vsearch.encoders import registry
from e2vsearch.encoders.base import EncoderOptions


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("groups"))


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, each in command.commands.items():
        yield " ".join((*path, name)), each
        if hasattr(each, "commands"):
            yield from commands(each, (*path, name))


def test_help_is_in_panels_and_names_every_command(run: Run) -> None:
    text = run("--help").out
    panels = [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert panels == ["Start", "Search", "Fill", "Understand", "Serve", "Keep", "Advanced", "Options"]
    rows = {line.split()[0]: line for line in text.partition("Options:")[0].splitlines() if line.startswith("  ")}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert " ".join(command.help.split()).startswith(rows[name].split(maxsplit=1)[1]), name
        assert rows[name].endswith("."), rows[name]
    panels = [line[:-1] for line in run("query", "--help").out.splitlines() if line.endswith(":") and line[0] != " "]
    assert panels == ["Arguments", "Options", "Filter", "Score", "Groups", "Encoder", "Collection and output"]


def test_help_speaks_no_python(run: Run) -> None:
    for name, _ in commands(typer.main.get_command(app)):
        text = run(*name.split(), "--help").out
        for word in ("<str", "<int", "<float", "<path", "<list", "{", "[uris]"):
            assert word not in text, (name, word)


def test_every_group_has_a_main_command_which_its_name_alone_stands_for(index: Path, run: Run) -> None:
    groups = {name: each for name, each in commands(typer.main.get_command(app)) if hasattr(each, "commands")}
    assert len(groups) == 9
    for name, each in groups.items():
        assert each.main_verb in each.commands, name
        assert f"Alone: {name} {each.main_verb}." in " ".join(run(name, "--help").out.split())
    for name in ("queue", "policy", "index", "db", "vectors", "projection", "classifier"):
        alone = run(name, "--index", index, "-f", "json")
        assert alone.code == 0, alone.err
        assert alone.out == run(name, groups[name].main_verb, "--index", index, "-f", "json").out
    assert "write e2vsearch label NAME" in " ".join(run("label", "--index", index).err.split())


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("map --show", "e2vsearch map show"),
        ("map --name x --list", "e2vsearch map list"),
        ("map build --drop", "e2vsearch map drop"),
        ("label --suggest -k 5", "e2vsearch label suggest"),
        ("label x --remove", "e2vsearch label remove"),
        ("train --list", "e2vsearch classifier list"),
        ("train mood --export=mood.npz", "e2vsearch classifier export"),
        ("query seg:1 --top-k 3", "-k"),
    ],
)
def test_a_flag_that_went_names_what_to_write(run: Run, typed: str, instead: str) -> None:
    done = run(*typed.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].endswith(f"- write {instead}")


def test_completion_of_a_group_offers_its_commands_and_the_options_of_its_main_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def completed(words: str, at: int) -> str:
        monkeypatch.setenv("_E2VSEARCH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(at))
        with pytest.raises(SystemExit):
            typer.main.get_command(app).main([], prog_name="e2vsearch")
        return capsys.readouterr().out

    assert completed("e2vsearch map ", 2).split()[:5] == ["build", "show", "place", "list", "drop"]
    assert "--min-cluster-size" in completed("e2vsearch map --min", 2).split()
    assert "--min-cluster-size" in completed("e2vsearch map --name x --min", 4).split()


def test_every_command_has_the_same_options_of_output() -> None:
    lacking = []
    for name, each in commands(typer.main.get_command(app)):
        if hasattr(each, "commands"):
            continue
        options = {spelling for param in each.params for spelling in param.opts}
        wanted = (
            {"-q", "--quiet"}
            if name in ("serve", "mcp", "clip", "demo")
            else {"-q", "--quiet", "-f", "--format", "-o", "--output"}
        )
        lacking += [(name, spelling) for spelling in wanted - options]
    assert lacking == []


def test_a_suffix_that_says_nothing_is_refused_before_anything_is_done(index: Path, run: Run, tmp_path: Path) -> None:
    for name in ("out.xlsx", "out"):
        done = run("query", "seg:1", "--index", index, "-o", tmp_path / name)
        assert (done.code, done.out) == (2, "")
        assert ".json, .jsonl, .csv, .txt" in " ".join(done.err.split())
        assert not (tmp_path / name).exists()
    assert run("query", "seg:1", "--index", index, "-o", tmp_path / "out", "-f", "csv").code == 0
    assert (tmp_path / "out").read_text().startswith("rank,score")
    assert run("query", "seg:1", "--index", index, "-o", tmp_path / "out.txt").code == 0
    assert (tmp_path / "out.txt").read_text().split()[:4] == ["#", "score", "pct", "recording"]
    assert run("index", "build", "--index", index, "-o", tmp_path / "built.json", "-q") == (0, "", "")
    assert json.loads((tmp_path / "built.json").read_text())["kind"] == "flat"


def test_numbers_have_six_places(index: Path, run: Run) -> None:
    with e2vsearch.open(index) as collection:
        exact = collection.query("call:1", include_self=True)
    rows = run("query", "call:1", "--include-self", "--index", index).rows
    assert [row["score"] for row in rows] == [round(hit.score or 0, 6) for hit in exact]
    assert rows[0]["score"] == 1.0


def test_doctor_and_status_name_one_space(index: Path, run: Run) -> None:
    with e2vsearch.open(index) as collection:
        space = str(collection.status().space)
    found = next(row["found"] for row in run("doctor", "--index", index).rows if row["name"] == "collection")
    assert space in found
    assert space in run("status", "--index", index, "-f", "table").out


def test_a_device_that_is_not_used_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        registry.open("light", EncoderOptions(device="cuda"))
    assert caplog.messages == ["encoder light runs on the CPU alone: device cuda is not used"]


def test_the_list_of_encoders_is_of_those_that_users_have(run: Run, index: Path) -> None:
    done = run("embed", index.parent / "calls", "-o", index.parent / "out", "--encoder", "lite")
    assert (done.code, "light, saved, or the path" in done.err, "fake" in done.err) == (2, True, False)


def test_a_label_that_is_nearly_another_is_told(run: Run, tmp_path: Path) -> None:
    at = ("--index", make_collection(tmp_path))
    assert "did you mean" not in run("label", "fed up", "seg:1", *at).err
    done = run("label", "fed-up", "seg:2", *at)
    assert "note: new label 'fed-up' - did you mean 'fed up'?" in done.err
    assert done.rows[0]["near"] == "fed up"
    for other in ("fed-up", "calm", "not fed up"):
        assert "did you mean" not in run("label", other, "seg:3", *at).err


def test_counts_of_one_are_said_as_one(run: Run, tmp_path: Path) -> None:
    at = ("--index", make_collection(tmp_path))
    asked = run("remove", "call:1", *at, stdin="n\n")
    assert "Remove 1 recording from" in asked.err
    assert run("remove", "call:1", *at, "--yes", "-f", "table").err.splitlines()[-1] == "removed 1 recording"
    assert run("index", "verify", *at, "-f", "table").out == "intact\n"
