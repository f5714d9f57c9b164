"""Examples of labels: moments, spans, files, other audio, folders and tables, given and taken back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import save, silence, speech, wav_bytes

from e2vsearch.analysis.labels import types
from e2vsearch.catalog import labels as rows
from e2vsearch.collection import Collection
from e2vsearch.errors import NotStored, QueryError, SettingsError


def test_a_moment_has_one_label(collection: Collection) -> None:
    first = collection.labels.add("hesitant", "seg:2", "seg:5", "seg:2", speaker="Kim")
    assert (first.examples, first.added, first.already, first.replaced) == (("seg:2", "seg:5"), 2, 0, ())
    again = collection.labels.add(" hesitant ", "seg:5")
    assert (again.label, again.added, again.already) == ("hesitant", 0, 1)
    other = collection.labels.add("calm", "seg:2", "seg:1")
    assert other.added == 1
    assert other.replaced == (types.Replaced("seg:2", "hesitant"),)
    assert collection.labels.list() == (types.LabelCount("calm", 2, 0, 1), types.LabelCount("hesitant", 1, 0, 1))
    assert collection.labels.examples("calm") == (
        types.LabelledExample("calm", "seg:2", "call:1", "Kim"),  # who speaks does not change with the label
        types.LabelledExample("calm", "seg:1", "call:1", None),
    )
    segment = collection.segments("seg:2")[0]
    assert (segment.label, segment.label_score) == ("calm", 1.0)


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ("call:1", [f"seg:{n}" for n in range(1, 10)]),
        ("call:1@0-7", ["seg:1", "seg:2"]),
        ("call:1@4.0-15.2#1", ["seg:2", "seg:4"]),
        ("call:1@2.0-9", ["seg:2"]),  # a third of the first, a third of the third
        ("call:1@4.5-5", ["seg:2"]),  # a moment inside a segment stands for it
        ("/calls/1.wav@0-3", ["seg:10"]),  # by the path it was ingested from, though the file is gone
    ],
)
def test_spans_pick_the_moments_in_them(local: Collection, example: str, expected: list[str]) -> None:
    assert list(local.labels.add("x", example).examples) == expected


@pytest.mark.parametrize(
    ("example", "reason", "says"),
    [
        ("seg:999", "not-stored", "seg:999"),
        ("seg:x", "not-stored", "no id"),
        ("call:99", "not-stored", "call:99"),
        ("call:1@3.1-3.9", "not-stored", "holds no segment"),
        ("call:1@9-2", "query", "start comes first"),
        ("nothing.wav", "missing", "nothing.wav"),
        ("http://host/a.wav", "query", "download it"),
    ],
)
def test_what_cannot_be_taken_stops_nothing(local: Collection, example: str, reason: str, says: str) -> None:
    report = local.labels.add("x", example, "seg:1")
    assert report.examples == ("seg:1",)
    [failure] = report.failures
    assert (failure.example, failure.reason) == (example, reason)
    assert says in failure.message
    assert "\n" not in failure.message


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, 'say "no"', "a\x00b", "a\x1b[31m"])
def test_a_label_needs_a_name_that_filters_can_write(local: Collection, name: str) -> None:
    with pytest.raises(QueryError, match="name of a label"):
        local.labels.add(name, "seg:1")


def test_removing(collection: Collection) -> None:
    collection.labels.add("calm", "seg:1", "seg:4")
    collection.labels.add("hesitant", "seg:2", "seg:5")
    assert collection.labels.remove(label="calm", segments=["seg:1", "seg:2"]) == 1
    assert collection.labels.remove(segments=["seg:2"]) == 1
    assert collection.labels.remove(label="hesitant") == 1
    assert collection.labels.list() == (types.LabelCount("calm", 1, 0, 1),)
    with pytest.raises(NotStored, match="labels: calm"):
        collection.labels.remove(label="hesitant")
    with pytest.raises(QueryError, match="name the label"):
        collection.labels.remove()
    collection.remove("call:1")  # takes its examples with it
    assert collection.labels.list() == ()


def test_a_stored_file_stands_for_its_segments(heard: Collection, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.wav").write_bytes((tmp_path / "calls" / "one.wav").read_bytes())
    ids = {each.id for each in heard.segments(heard.recordings(str(tmp_path / "calls" / "one.wav"))[0].id)}
    for path in (tmp_path / "calls" / "one.wav", tmp_path / "elsewhere.wav"):
        assert set(heard.labels.add("x", path).examples) == ids
    channel = heard.labels.add("x", f"{tmp_path / 'calls' / 'pair.wav'}@0-10#1").examples
    assert [heard.segments(each)[0].channel for each in channel] == [1]


def test_other_audio_is_kept_as_vectors(heard: Collection, tmp_path: Path) -> None:
    clip = np.concatenate([speech(3.0, seed=1), silence(2.0), speech(3.0, seed=2)])
    path = save(tmp_path / "clip.wav", clip, subtype="FLOAT")
    first = heard.labels.add("hesitant", path, speaker="Lee")
    assert first.added == 2
    assert all(each.startswith(f"{path}@") for each in first.examples)
    moved = heard.labels.add("calm", path)
    assert [(each.example, each.before) for each in moved.replaced] == [(each, "hesitant") for each in first.examples]
    part = heard.labels.add("part", f"{path}@4.5-8.5")
    [source] = part.examples
    start_s = float(source.rpartition("@")[2].partition("-")[0])
    assert 4.9 < start_s < 5.6
    whole = heard.labels.add("bytes", wav_bytes(clip), speech(2.0, seed=3))
    assert (whole.added, whole.failures) == (3, ())
    stored = {each.label: each for each in rows.examples(heard.catalog)}
    expected = heard.embed(path).segments[1].vector
    np.testing.assert_array_equal(stored["calm"].vector, expected)
    assert (stored["calm"].segment, stored["calm"].recording, stored["calm"].speaker) == (None, None, "Lee")
    assert heard.labels.remove(label="calm", segments=[str(path)]) == 2
    silent = heard.labels.add("x", silence(2.0))
    assert [each.reason for each in silent.failures] == ["query"]


def test_a_folder_stands_for_its_files(heard: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    folder.mkdir()
    save(folder / "a.wav", speech(2.0, seed=1))
    (folder / "b.wav").write_bytes(b"no audio at all, but long enough to be looked at")
    report = heard.labels.add("x", folder)
    assert report.added == 1
    assert [Path(each.example).name for each in report.failures] == ["b.wav"]


def test_a_table_of_labels(heard: Collection, tmp_path: Path) -> None:
    save(tmp_path / "clip.wav", speech(3.0, seed=1))
    table = tmp_path / "labels.csv"
    lines = [
        "label;path;segment;start_s;end_s;channel;speaker",
        "calm;;seg:1;;;;Kim",
        "calm;;2;;;;",
        "hesitant;clip.wav;;;;;Lee",
        "hesitant;calls/pair.wav;;5;9;1;",
        "hesitant;gone.wav;;;;;",
        "hesitant;;;;;;",
        "hesitant;clip.wav;;one;;;",
        ";;seg:1;;;;",
    ]
    table.write_text("\n".join(lines), encoding="utf-8")
    calm, hesitant, nameless = heard.labels.add_from(table)
    assert (calm.label, calm.examples, calm.failures) == ("calm", ("seg:1", "seg:2"), ())
    assert hesitant.added + len(hesitant.replaced) == 2
    assert [each.example for each in hesitant.failures] == [
        f"{table} line 7",
        f"{table} line 8",
        str(tmp_path / "gone.wav") if (tmp_path / "gone.wav").exists() else "gone.wav",
    ]
    assert nameless.examples == ()
    assert "line 9" in nameless.failures[0].message
    assert heard.labels.examples("calm")[0].speaker == "Kim"


@pytest.mark.parametrize("text", ["name,path\nx,y\n", "label\nx\n", "", b"\xff\xfe\x00"])
def test_a_table_without_its_columns_is_refused(local: Collection, tmp_path: Path, text: str | bytes) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError, match=r"labels\.csv"):
        local.labels.add_from(table)
