"""The command line: results on stdout, everything else on stderr, exit codes, one line an error."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from command import Run
from made import damaged, save, silence, speech

import e2vsearch
from e2vsearch.catalog.schema import SCHEMA_REVISION
from e2vsearch.cli import app
from e2vsearch.cli.output import plain


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    for number, name in enumerate(("one", "two", "three")):
        save(folder / f"{name}.wav", speech(2.5, seed=number, pitch_hz=100 + 25 * number))
    return folder


@pytest.fixture(scope="module")
def ingested(calls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ingested")
    (folder / "calls.csv").write_text("file,product\none.wav,Kim\ntwo.wav,Lee\n")
    with e2vsearch.open(folder / "index", encoder="fake", create=True) as collection:
        assert collection.ingest(calls, meta=folder / "calls.csv").stored == 3
    return folder / "index"


@pytest.fixture
def index(ingested: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ingested, tmp_path / "index"))


def test_ingest_reads_a_table_of_metadata(run: Run, calls: Path, tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text("file,product\none.wav,Kim\ntwo.wav,Lee\n")
    done = run("ingest", calls, "--index", tmp_path / "index", "--encoder", "fake", "--meta", tmp_path / "calls.csv")
    assert (done.code, done.rows[0]["stored"]) == (0, 3), done.err
    assert len(run("query", "--where", "product = Kim", "--index", tmp_path / "index").rows) == 1


def test_query_in_every_format(run: Run, index: Path, calls: Path, tmp_path: Path) -> None:
    table = run("query", calls / "one.wav", "--index", index, "--format", "table", "-k", 2)
    assert table.code == 0
    header, first, second = table.out.splitlines()
    assert header.split() == ["#", "score", "pct", "recording", "ch", "at", "emotion", "id"]
    assert first.split()[:2] == ["1", "1.0000"]
    assert first.split()[3:5] == ["one", "0"]
    assert second.split()[0] == "2"
    assert "searched 3 segments in" in table.err
    assert str(index) in table.err

    lines = run("query", calls / "one.wav", "--index", index).rows
    assert [line["rank"] for line in lines] == [1, 2, 3]
    assert lines[0]["metadata"] == {"product": "Kim"}
    whole = json.loads(run("query", calls / "one.wav", "--index", index, "-f", "json").out)
    assert whole["hits"] == lines
    assert whole["searched"] == whole["total"] == 3
    rows = list(csv.DictReader(io.StringIO(run("query", calls / "one.wav", "--index", index, "-f", "csv").out)))
    assert [row["name"] for row in rows] == [line["name"] for line in lines]
    assert rows[0]["metadata.product"] == "Kim"
    quiet = run("query", calls / "one.wav", "--index", index, "-q", "-o", tmp_path / "hits.json")
    assert (quiet.out, quiet.err) == ("", "")
    assert json.loads((tmp_path / "hits.json").read_text())["hits"] == lines


def test_query_by_id_and_filter(run: Run, index: Path) -> None:
    without = run("query", "seg:1", "--index", index, "--by", "segment").rows
    assert "seg:1" not in [row["segment"] for row in without]
    itself = run("query", "seg:1", "--index", index, "--by", "segment", "--include-self").rows
    assert itself[0]["segment"] == "seg:1"
    assert f"{itself[0]['score']:.4f}" == "1.0000"
    filtered = run("query", "seg:1", "--index", index, "--where", "product in (Kim, Lee)", "--include-self")
    assert {row["metadata"]["product"] for row in filtered.rows} == {"Kim", "Lee"}
    assert "searched 2 of 3 segments where product in (Kim, Lee)" in filtered.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["query", "none.wav"], 2, "none.wav"),
        (["query", "seg:99"], 2, "seg:99 is not in"),
        (["query", "seg:1", "--where", "prodcut = Kim"], 2, "did you mean product"),
        (["query", "seg:1", "--encoder", "light9"], 0, ""),  # no encoder is needed to look up a stored vector
        (["query", "seg:1", "-k", "0"], 2, "-k"),
        (["query"], 2, "Missing argument"),
        (["query", "seg:1", "--by", "product"], 2, "--by"),
        (["nonsense"], 2, "nonsense"),
        (["remove"], 2, "name recordings"),
        (["ingest", str(Path(__file__).parent), "--encoder", "light9"], 2, "no encoder called 'light9'"),
        (["export", "."], 1, "exists already"),
        (["import", "nowhere"], 1, "no export"),
        (["index", "verify"], 0, ""),
        (["db", "current"], 0, ""),
        (["compare", "a.wav", "b.wav"], 2, "a.wav"),
    ],
)
def test_exit_codes_and_messages(run: Run, index: Path, arguments: list[str], code: int, says: str) -> None:
    done = run(*arguments, "--index", index)
    assert done.code == code, done.err
    assert says in done.err
    assert "Traceback" not in done.err
    if code == 1 or done.err.startswith("e2vsearch: "):
        assert done.err.startswith("e2vsearch: ")
        assert done.err.count("\n") == 1
        assert done.out == ""


def test_no_collection_yet(run: Run, tmp_path: Path) -> None:
    for command in ("status", "failures", "query seg:1", "index status", "db current", "remove call:1"):
        done = run(*command.split(), "--index", tmp_path / "nothing")
        assert done.code == 1, command
        assert "make one with: e2vsearch ingest" in done.err
    assert not (tmp_path / "nothing").exists()


def test_ingest_reports_failures_with_exit_3(run: Run, calls: Path, tmp_path: Path) -> None:
    broken = damaged("text-as-wav", tmp_path)
    done = run("ingest", calls, broken, "--index", tmp_path / "index", "--encoder", "fake", "--format", "table")
    assert done.code == 3
    assert "3 stored, 1 failed" in done.out
    assert f"failed: {broken}" in done.err.replace("'", "")
    listed = run("failures", "--index", tmp_path / "index").rows
    assert [(row["uri"], row["reason"]) for row in listed] == [(str(broken), "not-audio")]
    again = run("ingest", calls, "--index", tmp_path / "index", "--format", "table")
    assert (again.code, "3 already there" in again.out) == (0, True)
    state = run("status", "--index", tmp_path / "index", "-f", "json")
    assert json.loads(state.out)["counts"]["failures"] == 1


def test_ingest_a_list_from_stdin_and_a_rehearsal(run: Run, calls: Path, tmp_path: Path) -> None:
    listing = f"{calls / 'one.wav'}\n\n{calls / 'two.wav'}\n"
    place = ("--index", tmp_path / "index", "--encoder", "fake", "--format", "table")
    rehearsed = run("ingest", "-", *place, "--dry-run", stdin=listing)
    assert "2 would be stored" in rehearsed.out
    assert not (tmp_path / "index").exists()
    assert "2 stored" in run("ingest", "-", *place, stdin=listing).out


def test_remove_asks(run: Run, index: Path) -> None:
    assert "would be removed" in run("remove", "--where", "product = Kim", "--index", index, "--dry-run").err
    refused = run("remove", "call:1", "--index", index, stdin="n\n")
    assert refused.code == 1
    done = run("remove", "--where", "product = Kim", "--index", index, "--yes")
    assert (done.code, "removed 1 recording" in done.err) == (0, True)
    assert json.loads(run("status", "--index", index).out)["counts"]["recordings"] == 2


def test_index_and_database_commands(run: Run, index: Path) -> None:
    assert run("index", "build", "--kind", "flat", "--index", index).code == 0
    assert json.loads(run("index", "status", "--index", index).out)["kind"] == "flat"
    assert run("index", "verify", "--index", index).rows == [{"intact": True, "problems": []}]
    [vectors] = (index / "generations").glob("*/vectors.f32")
    with vectors.open("r+b") as file:
        file.write(b"\1\2\3\4")
    broken = run("index", "verify", "--index", index)
    assert broken.code == 1
    assert "vectors.f32" in broken.out
    assert "e2vsearch index build" in broken.err
    assert run("db", "current", "--index", index, "-f", "table").out == f"{SCHEMA_REVISION}\n"
    assert "up to date" in run("db", "upgrade", "--index", index, "-f", "table").out
    assert run("db", "history", "--index", index).rows[0]["applied"] is True
    assert f"none → {SCHEMA_REVISION}" in run("db", "upgrade", "--index", index.with_name("fresh"), "-f", "table").out


def test_a_damaged_index_answers_and_mends_itself(run: Run, index: Path) -> None:
    before = run("query", "seg:1", "--index", index).rows
    run("index", "build", "--kind", "flat", "--index", index)
    [vectors] = (index / "generations").glob("*/vectors.f32")
    vectors.write_bytes(b"\0" * 100)
    assert run("query", "seg:1", "--index", index).rows == before
    assert run("index", "verify", "--index", index).rows == [{"intact": True, "problems": []}]


def test_export_and_import(run: Run, index: Path, tmp_path: Path) -> None:
    assert run("export", tmp_path / "out", "--index", index).code == 0
    done = run("import", tmp_path / "out", "--index", tmp_path / "copy", "-f", "table")
    assert "imported 3 recordings with 3 segments" in done.out
    assert run("query", "seg:1", "--index", tmp_path / "copy").rows[0]["score"] == pytest.approx(
        run("query", "seg:1", "--index", index).rows[0]["score"]
    )


def test_transcripts_and_text(run: Run, calls: Path, index: Path, tmp_path: Path) -> None:
    folder = tmp_path / "transcripts"
    folder.mkdir()
    (folder / "one.srt").write_text(
        "1\n00:00:00,200 --> 00:00:02,300\nI want a refund, and I want it now, not next week\n"
    )
    (folder / "two.txt").write_text("我要退款。" * 20, encoding="utf-8")
    (folder / "three.vtt").write_text("hello", encoding="utf-8")
    (folder / "four.srt").write_text("", encoding="utf-8")
    where = ("--index", index, "--encoder", "fake")
    rehearsed = run("ingest", calls, "--transcripts", folder, "--dry-run", *where)
    assert "3 transcripts would be joined" in rehearsed.err
    done = run("ingest", calls, "--transcripts", folder, *where)
    assert done.code == 3
    assert "2 transcripts were joined" in done.err
    assert "1 of --transcripts fit no file of this run" in done.err
    assert f"failed: {folder / 'three.vtt'}: has no line such as" in done.err
    assert [row["reason"] for row in run("failures", "--index", index).rows] == ["transcript"]

    table = run("query", calls / "one.wav", "--text", "refund", "--index", index, "-f", "table")
    header, _, below = table.out.splitlines()
    assert header.split() == ["#", "score", "pct", "recording", "ch", "at", "emotion", "id"]
    assert below == "   I want a refund, and I want it now, not next week"
    assert "searched 1 of 3 segments with the text refund" in table.err
    both = run("query", calls / "one.wav", "--text", "退款", "--where", "product = Lee", "--index", index)
    assert [hit["name"] for hit in both.rows] == ["two"]
    whole = json.loads(run("query", calls / "one.wav", "--text", "refund", "--index", index, "-f", "json").out)
    assert (whole["text"], whole["hits"][0]["text"][:8]) == ("refund", "I want a")
    wrong = run("query", calls / "one.wav", "--text", "?", "--index", index)
    assert (wrong.code, "no word" in wrong.err, wrong.err.count("\n")) == (2, True, 1)
    state = run("status", "--index", index, "-f", "table")
    assert "2 segments" in next(line for line in state.out.splitlines() if line.startswith("with transcript"))


def test_named_vectors(run: Run, index: Path, calls: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.eye(2, 4, dtype=np.float32))
    (tmp_path / "ids.txt").write_text("seg:1\nseg:2\n")
    assert run("vectors", "list", "--index", index).rows == []
    done = run("vectors", "attach", "text", tmp_path / "text.npy", "--ids", tmp_path / "ids.txt", "--index", index)
    assert (done.code, done.rows[0]["attached"], done.rows[0]["segments"], done.rows[0]["dim"]) == (0, 2, 2, 4)
    [found] = run("vectors", "list", "--index", index).rows
    assert (found["name"], found["dim"], found["segments"]) == ("text", 4, 2)
    assert "text: 4-d, 2 segments" in run("status", "--index", index, "-f", "table").out

    np.save(tmp_path / "ref.npy", np.eye(1, 4))
    for reference in ("seg:1", tmp_path / "ref.npy"):
        query = (
            "query",
            calls / "three.wav",
            "--index",
            index,
            "--named-vector",
            f"text=1:{reference}",
            "--named-vector",
            "emotion=0",
        )
        [first, *rest] = run(*query).rows
        assert first["segment"] == "seg:1"
        assert first["score"] == pytest.approx(1.0)
        assert [hit["named_vector_scores"]["text"] for hit in rest] == [0.0, 0.0]
    table = run("query", "seg:1", "--named-vector", "text=0.5", "--index", index, "-f", "table").out.splitlines()
    assert table[2].split(" · ")[-1] == "text 0.000"
    for option, code, says in (
        ("text", 2, "NAME=WEIGHT"),
        ("text=a", 2, "NAME=WEIGHT"),
        ("sound=1", 2, "there are text"),
        ("text=1:none.npy", 1, "cannot be read"),
    ):
        wrong = run("query", "seg:1", "--named-vector", option, "--index", index)
        assert (wrong.code, says in wrong.err) == (code, True), wrong.err
    assert run("vectors", "detach", "text", "--index", index).rows == [{"name": "text", "segments": 2}]
    assert run("vectors", "detach", "text", "--index", index).code == 2


def test_labels_of_ones_own_are_shown(run: Run, index: Path) -> None:
    from e2vsearch.transfer import label_rows as notes

    when = datetime(2024, 3, 1, tzinfo=UTC)
    with e2vsearch.open(index, create=True) as collection:
        notes.add_examples(collection.catalog, [notes.Example("hesitant", 1, None, "seg:1", None, when)])
        one = notes.Classifier("labels", 1, ("calm", "hesitant"), b"", {}, None, when)
        number, _ = notes.add_classifier(collection.catalog, one)
        notes.add_predictions(collection.catalog, number, [notes.Prediction(2, "calm", 0.814)])
    table = run("query", "seg:1", "--include-self", "--index", index, "-f", "table").out
    assert "hesitant (yours)" in table
    assert "calm 0.81" in table


def test_compare(run: Run, calls: Path, tmp_path: Path) -> None:
    done = run("compare", calls / "one.wav", calls / "one.wav", "--encoder", "fake")
    assert done.rows[0]["score"] == pytest.approx(1.0)
    table = run("compare", calls / "one.wav", calls / "three.wav", "--encoder", "fake", "-f", "table")
    assert table.out.startswith("similarity 0.")
    assert "one.wav" in table.out


def test_embed(run: Run, calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    save(folder / "a.wav", speech(2.0, seed=1))
    save(folder / "a.flac", speech(2.0, seed=2))
    save(folder / "sub" / "b.wav", np.stack([speech(2.0, seed=3), speech(2.0, seed=4)]))
    save(folder / "quiet.wav", silence(2.0))
    out = tmp_path / "out"
    done = run("embed", folder, "-o", out, "--encoder", "fake", "--similar-to", folder / "a.wav")
    assert done.code == 3
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.npy")) == [
        "a.flac.npy",
        "a.wav.npy",
        "sub/b.ch1.npy",
        "sub/b.npy",
    ]
    by_file = {(Path(str(row["filepath"])).name, row["channel"]): row for row in done.rows}
    assert by_file[("quiet.wav", 0)]["status"] == "failed"
    first = by_file[("a.wav", 0)]
    assert first["similarity_to_sample"] == pytest.approx(1.0)
    assert first["emotion"] in ("low", "high")
    assert plain(json.loads((out / "a.wav.json").read_text())) == first
    assert np.load(out / "a.wav.npy").shape == (16,)
    frames = run("embed", folder / "a.wav", "-o", tmp_path / "frames", "--encoder", "fake", "--granularity", "frame")
    assert np.load(tmp_path / "frames" / "a.npy").shape == (99, 16)
    assert frames.rows[0]["windows"] == [[0.0, 99]]


def test_embed_leaves_the_agent_out(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "both.wav", np.stack([speech(2.0, seed=1), speech(2.0, seed=2)]))
    save(tmp_path / "mono.wav", speech(2.0, seed=3))
    files, out = (tmp_path / "both.wav", tmp_path / "mono.wav"), tmp_path / "out"
    done = run("embed", *files, "-o", out, "--encoder", "fake", "--channel-role", "0=agent,1=customer")
    assert done.code == 0
    assert sorted(path.name for path in out.glob("*.npy")) == ["both.ch1.npy", "mono.npy"]
    done = run("embed", *files, "-o", tmp_path / "none", "--encoder", "fake", "--channel-role", "0=agent")
    assert [row["status"] for row in done.rows] == ["success", "failed"]
    assert "its only voice is an agent's" in done.err
    assert run("embed", *files, "-o", out, "--encoder", "fake", "--channel-role", "0=boss").code == 2


def test_doctor(run: Run, index: Path) -> None:
    done = run("doctor", "--index", index, "-f", "table")
    assert "e2vsearch" in done.out
    assert "3 recordings, 3 segments" in done.out
    assert "processes of their own, with limits" in done.out or sys.platform == "win32"


def test_settings_from_the_environment(run: Run, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2VSEARCH_INDEX", str(index))
    assert len(run("query", "seg:1").rows) == 2


def test_debug_shows_the_traceback(run: Run, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from e2vsearch.errors import NotStored

    monkeypatch.setenv("E2VSEARCH_DEBUG", "1")
    with pytest.raises(NotStored):
        run("query", "seg:99", "--index", index)


def test_version(run: Run) -> None:
    from e2vsearch import __version__

    version, use = run("--version").out.splitlines()
    assert version == f"e2vsearch {__version__}"
    assert Path(use.removeprefix("responsible use: ")).read_text(encoding="utf-8").startswith("# Responsible use")


def every_command(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The words that lead to each command, and whether it is a group of others."""
    below = getattr(command, "commands", {})
    yield path, bool(below)
    for name, each in below.items():
        yield from every_command(each, (*path, name))


FACETS = {
    "index": "index",
    "label": "labels",
    "map": "maps",
    "projection": "projections",
    "vectors": "named_vectors",
    "queue": "queue",
}
METHODS = {
    "train": "labels.train",
    "classify": "labels.classify",
    "classifier list": "labels.classifiers",
    "classifier remove": "labels.remove_classifier",
    "classifier export": "labels.export_classifier",
    "classifier import": "labels.import_classifier",
    "map show": "maps.load",
    "queue show": "queue.state",
    "policy set": "set_policy",
    "policy show": "policy.plain",
    "show": "timeline",
    "reembed": "spaces.reembed",
}
MAIN = {"map build", "label add", "queue show", "policy show"}
"""Commands that their group's name alone stands for."""

ABOVE = {"worker", "doctor", "serve", "mcp", "db", "demo", "encoders", "plugins"}
"""Of the command line alone: a worker that a signal ends, and what is no verb of an open collection."""


def test_a_command_is_a_method(index: Path) -> None:
    with e2vsearch.open(index) as collection:
        for path, is_group in every_command(typer.main.get_command(app)):
            if not path or is_group or path[0] in ABOVE:
                continue
            named = METHODS.get(" ".join(path))
            name = named or ".".join((FACETS.get(path[0], path[0]), *path[1:]))
            method = attrgetter(re.sub(r"import$", "import_", name))(collection)
            assert callable(method), path
            assert method.__doc__, path


def test_help_fits_the_screen_and_ends_in_examples(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = dict(every_command(typer.main.get_command(app)))
    names = {" ".join(path) for path in found}
    for path, is_group in found.items():
        text = run(*path, "--help").out
        assert not is_group or "..." not in text.partition("\n")[2]  # the list has a whole sentence of each command
        assert max(map(len, text.splitlines())) <= 80, path
        examples = [line.split()[1:] for line in text.partition("Examples:\n")[2].splitlines()]
        assert examples or is_group, path
        for words in examples:
            assert words[0] in names, words
            assert words[: len(path)] == list(path) or " ".join(path) in MAIN, words
            assert words[:1] == list(path[:1]) or not path, words
