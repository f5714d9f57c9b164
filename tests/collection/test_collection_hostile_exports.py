"""Exports that are damaged or made to harm: refused with a line that names file and row, and nothing is stored."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made_calls import annotate, ingested

import e2vsearch
from e2vsearch.errors import ExportError, SpaceMismatch
from e2vsearch.transfer.manifest import write_manifest

Change = Callable[[Path], object]
posix = pytest.mark.skipif(os.name == "nt", reason="there are no pipes in folders, and links need rights")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, calls: Path) -> Path:
    """A collection in SQLite with something of everything."""
    folder = tmp_path_factory.mktemp("index")
    with ingested(f"sqlite:///{folder / 'catalog.db'}", calls) as collection:
        annotate(collection)
    return folder


@pytest.fixture(scope="module")
def whole(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export."""
    folder = tmp_path_factory.mktemp("exports") / "whole"
    with e2vsearch.open(index) as collection:
        collection.export(folder)
    return folder


def seal(folder: Path, **fields: Any) -> None:
    """Give an export a manifest that fits its files, as whoever made them would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["checksum"]
    for name in manifest["sha256"]:
        if (folder / name).is_file():
            manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    write_manifest(folder, manifest | fields)


def in_line(name: str, row: int, /, **fields: Any) -> Change:
    """Change fields of a line; `...` takes one away."""

    def change(folder: Path) -> None:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        given = json.loads(lines[row]) | fields
        lines[row] = json.dumps({key: value for key, value in given.items() if value is not ...})
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    return change


def instead_of_line(name: str, row: int, content: str) -> Change:
    def change(folder: Path) -> None:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        lines[row] = content
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    return change


def in_array(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda folder: np.save(folder / name, change(np.load(folder / name)))


def with_(index: Any, value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[index] = value
        return array

    return change


def to_archive(folder: Path) -> None:
    with (folder / "vectors.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3))


HEADER_BOMB = (
    b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 16), }".ljust(128)
)
RECORDINGS, SEGMENTS = "recordings.jsonl", "segments.jsonl"
REFUSED: dict[str, tuple[Change, str]] = {
    "a field is missing": (in_line(RECORDINGS, 1, uri=...), r"recordings\.jsonl line 2 has no uri"),
    "a field too many": (in_line(RECORDINGS, 1, admin=True), r"recordings\.jsonl line 2 has 'admin'"),
    "a text for a number": (in_line(RECORDINGS, 0, channels="two"), r"line 1: channels must be a whole number"),
    "true for a number": (in_line(RECORDINGS, 0, size_bytes=True), r"line 1: size_bytes must be"),
    "a billion channels": (in_line(RECORDINGS, 0, channels=10**9), r"line 1: channels must be"),
    "an endless recording": (in_line(RECORDINGS, 0, duration_s=float("inf")), r"line 1 is no JSON \(Infinity"),
    "a length that is no number": (in_line(RECORDINGS, 0, duration_s=None), r"line 1: duration_s must be"),
    "a short SHA-256": (in_line(RECORDINGS, 0, content_sha256="ab"), r"line 1: content_sha256 must be"),
    "an escape in a format": (in_line(RECORDINGS, 0, format="\x1b]0;own\x07"), r"line 1: format must be .*\\x1b"),
    "a long name": (in_line(RECORDINGS, 0, name="a" * 2000), r"line 1: name must be"),
    "half a surrogate": (in_line(RECORDINGS, 0, name="\ud800"), r"line 1: name must be"),
    "a NUL in metadata": (in_line(RECORDINGS, 0, metadata={"a": "\0"}), r"line 1: metadata must be"),
    "metadata that is no object": (in_line(RECORDINGS, 0, metadata=[]), r"line 1: metadata must be"),
    "a date that is none": (in_line(RECORDINGS, 0, recorded_at="yesterday"), r"line 1: recorded_at must be"),
    "a date at the edge": (in_line(RECORDINGS, 0, added_at="9999-12-31T23:59:59-14:00"), r"line 1: added_at must be"),
    "an id twice": (in_line(RECORDINGS, 1, id="call:1"), r"line 2: call:1 is there twice"),
    "a file twice": (in_line(RECORDINGS, 1, uri="/a", content_sha256="a" * 64), ""),
    "a recording less": (instead_of_line(RECORDINGS, 3, ""), r"recordings\.jsonl line 4 is no JSON"),
    "no JSON": (instead_of_line(RECORDINGS, 2, "{"), r"recordings\.jsonl line 3 is no JSON"),
    "a list": (instead_of_line(RECORDINGS, 2, "[]"), r"line 3 is no object"),
    "deep JSON": (instead_of_line(RECORDINGS, 2, "[" * 200_000), r"line 3 is no JSON"),
    "long digits": (instead_of_line(RECORDINGS, 2, "1" * 5000), r"line 3 is no"),
    "bytes that are no text": (
        lambda f: (f / SEGMENTS).write_bytes(b"\xff\xfe\n"),
        r"segments\.jsonl line 1 is no JSON",
    ),
    "an unknown recording": (in_line(SEGMENTS, 2, recording="call:99"), r"segments\.jsonl line 3 is of call:99"),
    "channel x": (in_line(SEGMENTS, 2, channel="x"), r"line 3: channel must be a whole number from 0 to 31"),
    "channel 32": (in_line(SEGMENTS, 2, channel=32), r"line 3: channel must be"),
    "a negative time": (in_line(SEGMENTS, 2, start_s=-1.0), r"line 3: start_s must be"),
    "inverted times": (in_line(SEGMENTS, 2, start_s=5.0, end_s=4.0), r"line 3 ends at 4\.0 s, before it starts"),
    "a level that is none": (in_line(SEGMENTS, 2, level_db="loud"), r"line 3: level_db must be"),
    "a text that is none": (in_line(SEGMENTS, 2, text=["a"]), r"line 3: text must be"),
    "fewer vectors": (in_array("vectors.npy", lambda rows: rows[:-1]), r"vectors\.npy holds float32 \(\d+, 16\), not"),
    "wider vectors": (in_array("vectors.npy", lambda rows: np.hstack([rows, rows])), r"vectors\.npy holds float32"),
    "float64": (in_array("vectors.npy", lambda rows: rows.astype("f8")), r"vectors\.npy holds float64"),
    "NaN": (in_array("vectors.npy", with_((3, 1), np.nan)), r"vectors\.npy row 3 is all zeros, or has NaN"),
    "infinity": (in_array("vectors.npy", with_((4, 1), np.inf)), r"vectors\.npy row 4"),
    "zeros": (in_array("vectors.npy", with_(5, 0.0)), r"vectors\.npy row 5"),
    "no array": (lambda folder: (folder / "vectors.npy").write_bytes(b"hello"), r"vectors\.npy is no array"),
    "an array of objects": (
        lambda folder: np.save(folder / "reference_embedding.npy", np.array([{}] * 16), allow_pickle=True),
        r"reference_embedding\.npy is no array",
    ),
    "an archive": (to_archive, r"vectors\.npy is no array"),
    "a header bomb": (
        lambda folder: (folder / "vectors.npy").write_bytes(HEADER_BOMB),
        r"vectors\.npy is no array",
    ),
    "scores that are none": (in_array("scores.npy", with_((1, 0), 7.0)), r"scores\.npy row 1 is no probabilities"),
    "half of the scores": (in_array("scores.npy", with_((1, 0), np.nan)), r"scores\.npy row 1"),
    "no reference": (in_array("reference_embedding.npy", with_(slice(None), 0.0)), r"reference_embedding\.npy row 0"),
    "a label of nothing": (in_line("labels.jsonl", 0, segment=10**9), r"labels\.jsonl line 1: segment must be"),
    "a label without its vector": (in_line("labels.jsonl", 0, segment=None), r"label_vectors\.npy holds"),
    "a prediction of nothing": (in_line("classifiers/1.jsonl", 0, segment=-1), r"1\.jsonl line 1: segment must be"),
    "a classifier of nothing": (lambda f: (f / "classifiers" / "0.npz").write_bytes(b"x"), r"0\.npz holds no arrays"),
    "a set with a bad name": (in_line("named_vectors.jsonl", 0, name="a=b"), r"named_vectors\.jsonl line 1"),
    "named vectors of nothing": (
        in_array("named_vectors/0.segments.npy", with_(0, 10**6)),
        r"0\.segments\.npy names rows",
    ),
    "NaN in named vectors": (in_array("named_vectors/0.npy", with_((0, 0), np.nan)), r"0\.npy has NaN"),
}


@pytest.mark.parametrize("name", [name for name, (_, says) in REFUSED.items() if says])
def test_what_no_export_holds_is_refused_and_nothing_is_stored(name: str, whole: Path, tmp_path: Path) -> None:
    change, says = REFUSED[name]
    folder = tmp_path / "export"
    shutil.copytree(whole, folder)
    change(folder)
    seal(folder)
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        with pytest.raises(ExportError, match=says) as caught:
            copy.import_(folder)
        assert str(caught.value).endswith("export again")
        assert len(str(caught.value).splitlines()) == 1
        assert copy.space is None
        assert copy.status().counts.recordings == 0


def test_a_file_whose_name_has_control_characters_comes_back(whole: Path, tmp_path: Path) -> None:
    folder, odd = tmp_path / "export", "a\x1b]0;own\x07"
    shutil.copytree(whole, folder)
    in_line(RECORDINGS, 0, name=odd, uri=f"/calls/{odd}.wav")(folder)
    seal(folder)
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        copy.import_(folder)
        assert [each.uri for each in copy.recordings() if each.name == odd] == [f"/calls/{odd}.wav"]


def test_two_recordings_of_one_file_are_refused(whole: Path, tmp_path: Path) -> None:
    first = json.loads((whole / RECORDINGS).read_text(encoding="utf-8").splitlines()[0])
    for field in ("uri", "content_sha256"):
        folder = tmp_path / field
        shutil.copytree(whole, folder)
        in_line(RECORDINGS, 1, **{field: first[field]})(folder)
        seal(folder)
        with e2vsearch.open(tmp_path / "copy", create=True) as copy, pytest.raises(ExportError, match="another record"):
            copy.import_(folder)


@pytest.mark.parametrize(
    "name", ["../x.npy", "/etc/passwd", "a/b/c.npy", ".hidden.npy", "a//b.npy", "a\\b.npy", "a.npy/"]
)
def test_a_file_elsewhere_is_not_opened(name: str, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(whole, folder)
    (tmp_path / "x.npy").write_bytes(b"")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    seal(folder, sha256=manifest["sha256"] | {name: hashlib.sha256(b"").hexdigest()})
    with e2vsearch.open(tmp_path / "copy", create=True) as copy, pytest.raises(ExportError, match="no plain file"):
        copy.import_(folder)


@posix
def test_links_pipes_and_devices_are_no_files(whole: Path, tmp_path: Path) -> None:
    def to_link(folder: Path) -> None:
        (folder / "scores.npy").rename(tmp_path / "elsewhere.npy")
        (folder / "scores.npy").symlink_to(tmp_path / "elsewhere.npy")

    def to_pipe(folder: Path) -> None:
        (folder / "scores.npy").unlink()
        os.mkfifo(folder / "scores.npy")

    def to_device(folder: Path) -> None:
        (folder / "scores.npy").unlink()
        (folder / "scores.npy").symlink_to("/dev/zero")

    def to_linked_folder(folder: Path) -> None:
        (folder / "classifiers").rename(tmp_path / "classifiers")
        (folder / "classifiers").symlink_to(tmp_path / "classifiers")

    for at, change in enumerate((to_link, to_pipe, to_device, to_linked_folder)):
        folder = tmp_path / str(at)
        shutil.copytree(whole, folder)
        change(folder)
        with e2vsearch.open(tmp_path / "copy", create=True) as copy, pytest.raises(ExportError, match="missing or dam"):
            copy.import_(folder)
    shutil.copytree(whole, tmp_path / "last")
    (tmp_path / "last" / "manifest.json").rename(tmp_path / "manifest.json")
    (tmp_path / "last" / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with e2vsearch.open(tmp_path / "copy", create=True) as copy, pytest.raises(ExportError, match="no export"):
        copy.import_(tmp_path / "last")


def test_a_file_that_the_manifest_does_not_name_is_not_read(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(whole, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    seal(folder, sha256={name: of for name, of in manifest["sha256"].items() if not name.startswith("label")})
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        assert copy.import_(folder).found.labels == 0


def test_every_flipped_bit_of_a_manifest_is_noticed(whole: Path, tmp_path: Path) -> None:
    """The finding: it had no checksum of itself."""
    folder = tmp_path / "export"
    shutil.copytree(whole, folder)
    content = (folder / "manifest.json").read_bytes()
    chosen = np.random.default_rng(0).choice(8 * len(content), 300, replace=False).tolist()
    start = content.index(b'"format": 4') + 10
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        for bit in [*chosen, *range(8 * start, 8 * start + 8)]:
            wrong = bytearray(content)
            wrong[bit // 8] ^= 1 << bit % 8
            if json_equal(bytes(wrong), content):  # other white space
                continue
            (folder / "manifest.json").write_bytes(wrong)
            with pytest.raises(ExportError):
                copy.import_(folder)
        assert copy.space is None


def json_equal(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b"null", b"[" * 100_000, b'{"format": [4]}', b'{"format": 4}', b"\xff"]
)
def test_a_manifest_that_is_none_is_refused(content: bytes, tmp_path: Path, run: Run) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    done = run("import", tmp_path, "--index", tmp_path / "copy")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert "unexpected" not in done.err
    assert not (tmp_path / "copy").exists()


def test_a_refused_import_makes_no_collection(whole: Path, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "export"
    shutil.copytree(whole, folder)
    in_array("vectors.npy", with_((3, 1), np.nan))(folder)
    seal(folder)
    done = run("import", folder, "--index", tmp_path / "copy")
    assert (done.code, "vectors.npy row 3" in done.err) == (1, True)
    assert not (tmp_path / "copy").exists()


def test_named_vectors_that_do_not_fit_are_refused_before_anything_is_stored(whole: Path, tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        copy.import_(whole)
        copy.named_vectors.detach("text")
        copy.remove("call:2")
        copy.named_vectors.attach("text", [1], np.ones((1, 7)))
        before = copy.status().counts
        with pytest.raises(SpaceMismatch, match="'text' have 7 dimensions here, 3 in the export"):
            copy.import_(whole)
        assert copy.status().counts == before


FULL = """
import resource, signal, sys
import e2vsearch
from e2vsearch.errors import ExportError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with e2vsearch.open(sys.argv[1]) as collection:
    collection.recordings()  # SQLite makes its shared memory
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)  # as a full disk: no file grows beyond it
    try:
        collection.export(sys.argv[2])
    except ExportError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_full_disk_ends_an_export_with_one_line(index: Path, whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    for limit in (10, (whole / "vectors.npy").stat().st_size - 1):
        arguments = [sys.executable, "-c", FULL, str(index), str(tmp_path / "out"), str(limit)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{tmp_path / 'out'} cannot be written: File too large - choose another place\n"
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [8, 20, 28])
def test_a_really_full_disk_kills_no_export(kilobytes: int, index: Path, tmp_path: Path) -> None:
    """The finding: a signal killed it, for it wrote through a memory map, and half an export was left."""
    place = tmp_path / "small"
    place.mkdir()
    command = [shutil.which("mount") or "false", "-t", "tmpfs", "-o", f"size={kilobytes}k", "t", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "e2vsearch", "export", str(place / "out"), "--index", str(index)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (
            1,
            f"e2vsearch: {place / 'out'} cannot be written: No space left on device - "
            "the disk is full: free some of it, or choose another place\n",
        )
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", place], check=True)
