"""Mistakes of a newcomer: each is said in a line, with its cure, and nothing is fetched or lost for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command import Run
from made import save, speech

import e2vsearch


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    save(folder / "one.wav", speech(2.5))
    with e2vsearch.open(folder / "index", encoder="fake", create=True) as collection:
        assert collection.ingest(folder / "one.wav").stored == 1
    return folder


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "index", tmp_path / "index"))


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_a_folder_without_audio_is_said(run: Run, index: Path, tmp_path: Path, dry_run: tuple[str, ...]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    done = run("ingest", tmp_path / "photos", "--index", index, *dry_run)
    assert done.code == 0
    assert f"no audio in {tmp_path / 'photos'} - name a folder with .wav" in done.err
    assert "no audio" not in run("ingest", "-", "--index", index, *dry_run, stdin="").err
    assert "no file is listed on stdin" in run("ingest", "-", "--index", index, *dry_run, stdin="\n").err


def test_what_is_stored_already_is_no_lack_of_audio(run: Run, index: Path, made: Path) -> None:
    done = run("ingest", made / "one.wav", "--index", index)
    assert (done.rows[0]["already"], done.err) == (1, "")


@pytest.mark.parametrize("name", ["calls.csv", "calls.txt", "calls.tsv"])
def test_a_list_that_is_named_like_audio_is_told_where_it_goes(
    run: Run, index: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("one.wav\n" * 40)
    done = run("ingest", tmp_path / name, "--index", index)
    assert done.code == 3
    assert f"{tmp_path / name} is not audio: give a list of files, one a line, on stdin" in done.err


def test_a_list_as_windows_writes_it(run: Run, index: Path, made: Path) -> None:
    done = run("ingest", "-", "--index", index, stdin=f"\ufeff{made / 'one.wav'}\r\n\r\n")
    assert (done.code, done.rows[0]["already"]) == (0, 1)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_metadata_in_another_encoding_says_what_to_save_it_as(
    run: Run, index: Path, made: Path, tmp_path: Path, encoding: str
) -> None:
    (tmp_path / "calls.csv").write_text("file,queue\none.wav,Zürich\n", encoding=encoding)
    done = run("ingest", made / "one.wav", "--index", index, "--meta", tmp_path / "calls.csv")
    assert done.code == 2
    assert done.err == f"e2vsearch: --meta {tmp_path / 'calls.csv'} is not UTF-8 text - save it as CSV in UTF-8\n"


def test_no_hit_is_no_empty_table(run: Run, index: Path) -> None:
    done = run("query", "seg:1", "--include-self", "--where", "duration_s > 3600", "-f", "table", "--index", index)
    assert (done.code, done.out) == (0, "")
    assert "searched 0 of 1 segments" in done.err


@pytest.mark.parametrize(
    "command", [("query", "seg:99"), ("show", "call:99"), ("clip", "seg:99", "-o", "x.wav"), ("remove", "call:99")]
)
def test_an_id_that_is_not_stored_says_where_ids_are_shown(run: Run, index: Path, command: tuple[str, ...]) -> None:
    done = run(*command, "--index", index)
    assert done.code == 2
    assert f"{command[1]} is not in {index} - e2vsearch" in done.err


def test_another_encoder_is_refused_before_its_weights_are_fetched(
    run: Run, index: Path, made: Path, tmp_path: Path
) -> None:
    save(tmp_path / "two.wav", speech(2.5, seed=2))
    for arguments in (("ingest", tmp_path / "two.wav"), ("query", made / "one.wav")):
        done = run(*arguments, "--index", index, "--encoder", "emotion2vec_plus_large")
        assert done.code == 1
        assert "this collection holds vectors of fake@" in done.err
        assert "not of emotion2vec_plus_large - go on with --encoder fake, or start another collection" in done.err
