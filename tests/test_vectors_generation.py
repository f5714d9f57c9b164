"""Generations on disk: damage of every sort, builders that are killed, other processes. No answer may ever be wrong."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from memory_source import MemorySource, clustered
from numpy.typing import NDArray

from e2vsearch.errors import GenerationBusy, GenerationError
from e2vsearch.vectors.engine import IndexOptions, Kind
from e2vsearch.vectors.faiss import storage
from e2vsearch.vectors.faiss.index import FaissEngine

DIM, N = 32, 2500  # more than are compared exactly under a filter, so lists are used


def source_of(n: int = N, **names: str) -> MemorySource:
    return MemorySource(clustered(n, DIM), **names)


class Built:
    """A folder with a generation of its own in it, and the one right answer to one query."""

    def __init__(self, folder: Path, kind: Kind = "ivf-flat") -> None:
        self.folder = folder
        self.source = source_of()
        self.query = clustered(1, DIM, seed=9)
        self.truth = self.source.nearest(self.query[0], 20)[0]
        self.manifest = self.index().build(kind)

    def index(self) -> FaissEngine:
        return FaissEngine(self.folder, self.source)

    @property
    def root(self) -> Path:
        return self.folder / "generations"

    @property
    def current(self) -> Path:
        return self.root / (self.root / "CURRENT").read_text().split()[0]

    def assert_exact(self, index: FaissEngine) -> None:
        """The generation is not used, the answer is right, and the index knows that it wants mending."""
        matches = index.search(self.query, 20)
        np.testing.assert_array_equal(matches.ids[0], self.truth)
        assert matches.exact
        assert index.due()
        assert index.status().damage == index.due()
        assert index.status().kind == "none"

    def assert_heals(self, index: FaissEngine) -> None:
        index.build("ivf-flat")
        assert index.due() is None
        assert index.verify() == []
        assert not index.search(self.query, 20).exact


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("template"))


@pytest.fixture
def built(template: Built, tmp_path: Path) -> Built:
    """A copy to break."""
    copied: Built = object.__new__(Built)
    copied.__dict__.update(template.__dict__, folder=tmp_path / "index", source=source_of())
    shutil.copytree(template.folder, copied.folder)
    return copied


# ------------------------------------------------------------------------------------------------------------- layout


def test_what_a_generation_holds(built: Built) -> None:
    names = {path.name for path in built.current.iterdir()}
    assert names == {"vectors.f32", "ids.i64", "recordings.i64", "ivf.faiss", "manifest.json"}
    ids = np.fromfile(built.current / "ids.i64", "<i8")
    vectors = np.fromfile(built.current / "vectors.f32", "<f4").reshape(N, DIM)
    np.testing.assert_array_equal(ids, built.source.ids)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    found = json.loads((built.current / "manifest.json").read_text())
    assert {"format", "e2vsearch", "faiss", "kind", "watermark", "space_id", "seed", "built_at", "files"} <= set(found)
    assert found["tuned"]["tunings"][0]["recall"] == built.manifest.tuned.recall
    assert storage.Manifest.from_json(built.manifest.to_json()) == built.manifest


def test_exact_kinds_write_no_faiss_file(tmp_path: Path) -> None:
    flat = Built(tmp_path, "flat")
    assert not (flat.current / "ivf.faiss").exists()
    assert flat.manifest.faiss is None
    assert flat.manifest.tuned.recall == 1.0


def test_exact_search_never_imports_faiss(tmp_path: Path) -> None:
    code = """
import sys, numpy as np
from pathlib import Path
from memory_source import MemorySource, clustered
from e2vsearch.vectors.faiss.index import FaissEngine
index = FaissEngine(Path(sys.argv[1]), MemorySource(clustered(1200, 16)))
assert index.build().kind == "flat"
assert index.search(clustered(1, 16), 5).ids.min() > 0
assert not {"faiss", "sqlalchemy", "torch"} & set(sys.modules), sorted(sys.modules)
"""
    run_python(code, tmp_path)


@pytest.mark.parametrize("keep", [1, 3])
def test_old_generations_go_and_their_readers_stay(keep: int, tmp_path: Path) -> None:
    source = source_of(1200)
    index = FaissEngine(tmp_path, source, IndexOptions(keep=keep))
    index.build("flat")
    first = storage.Generation(index._root, pointer(tmp_path), source)
    for _ in range(4):
        index.build("flat")
    folders = [path for path in (tmp_path / "generations").iterdir() if path.is_dir()]
    assert len(folders) == keep
    stamps = {path.name.removesuffix(".verified") for path in (tmp_path / "generations").glob("*.verified")}
    assert stamps == {path.name for path in folders}
    assert not first.unchanged()
    assert np.isfinite(first.vectors).all()
    assert first.ids[-1] == 1200


def pointer(folder: Path) -> storage.Pointer:
    found = storage.read_pointer(folder / "generations")
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------------------------- damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])


def flip(path: Path) -> None:
    """One bit in the middle; size and, as a failing disk would, the time of change stay as they are."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "flipped": flip,
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b"") and None,  # type: ignore[dict-item]
    "random": lambda path: path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size)) and None,  # type: ignore[dict-item]
}
FILES = ("vectors.f32", "ids.i64", "recordings.i64", "ivf.faiss", "manifest.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_noticed_and_never_used(
    built: Built, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGE[damage](built.current / file)
    index = built.index()
    with caplog.at_level(logging.WARNING):
        built.assert_exact(index)
        built.assert_exact(index)
    assert len(caplog.records) == 1  # once, however many searches
    assert file in caplog.text
    assert "\n" not in caplog.records[0].getMessage()
    assert len(index.verify()) == 1
    built.assert_exact(index)


@pytest.mark.parametrize("file", FILES[:-1])
@pytest.mark.parametrize("damage", ["flipped", "missing", "random"])
def test_damage_under_an_open_index_is_noticed_too(built: Built, file: str, damage: str) -> None:
    index = built.index()
    assert not index.search(built.query, 20).exact
    DAMAGE[damage](built.current / file)
    built.assert_exact(index)
    built.assert_heals(index)


@pytest.mark.parametrize("content", ["", "garbage", "../../etc " + "0" * 64 + "\n", "x" * 10**6, "\xff\0"])
def test_a_pointer_to_nothing(built: Built, content: str) -> None:
    (built.root / "CURRENT").write_text(content)
    index = built.index()
    built.assert_exact(index)
    built.assert_heals(index)


def test_a_pointer_to_a_generation_that_is_gone(built: Built) -> None:
    shutil.rmtree(built.current)
    built.assert_exact(built.index())


def test_deleting_everything_loses_nothing(built: Built) -> None:
    index = built.index()
    assert not index.search(built.query, 20).exact
    shutil.rmtree(built.folder)
    np.testing.assert_array_equal(index.search(built.query, 20).ids[0], built.truth)
    assert "no index yet" in str(index.due())
    assert index.verify() == []
    built.assert_heals(index)


@pytest.mark.parametrize("names", [{"collection_id": "another"}, {"space_id": "fake@2"}])
def test_a_generation_of_something_else_is_refused(built: Built, names: dict[str, str]) -> None:
    built.source = source_of(**names)  # type: ignore[arg-type]
    index = built.index()
    built.assert_exact(index)
    assert ("made-up" if "collection_id" in names else "fake@1") in str(index.due())  # what it is, not what was due
    built.assert_heals(index)


def test_a_generation_of_a_later_format_is_refused(built: Built) -> None:
    file = built.current / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"format": 3', b'"format": 4'))
    (built.root / "CURRENT").write_text(f"{built.current.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n")
    index = built.index()
    built.assert_exact(index)
    assert "format 4" in str(index.due())


def test_hashes_are_read_once_and_again_when_a_file_changes(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    real = storage.sha256  # type: ignore[attr-defined]
    monkeypatch.setattr(storage, "sha256", lambda path: hashed.append(path.name) or real(path))  # type: ignore[func-returns-value]
    for path in built.current.iterdir():
        os.utime(path, (1e9, 1e9))  # long settled
    built.index().search(built.query, 1)
    assert len(hashed) == 4
    built.index().search(built.query, 1)
    assert len(hashed) == 4
    os.utime(built.current / "ids.i64", (1.1e9, 1.1e9))
    built.index().search(built.query, 1)
    assert len(hashed) == 8
    (built.root / f"{built.current.name}.verified").write_text("[1, 2")
    assert not built.index().search(built.query, 1).exact
    assert len(hashed) == 12


def test_a_stamp_is_not_trusted_with_files_as_young_as_itself(built: Built) -> None:
    target = built.current / "vectors.f32"
    stamp = built.root / f"{built.current.name}.verified"
    built.index().search(built.query, 1)
    flip(target)
    content = json.loads(stamp.read_text())
    stat = target.stat()
    content["files"]["vectors.f32"] = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    content["at"] = stat.st_mtime_ns + 1_000_000
    stamp.write_text(json.dumps(content))
    built.assert_exact(built.index())


def test_silent_rot_is_found_by_verify(built: Built) -> None:
    """A flip that no stat shows: the stamp vouches for the file until every byte is read again."""
    target = built.current / "vectors.f32"
    for path in built.current.iterdir():
        os.utime(path, (1e9, 1e9))
    index = built.index()
    index.search(built.query, 1)
    inode = target.stat().st_ino
    with target.open("r+b") as file:
        file.seek(4 * DIM * 3)
        file.write(np.full(DIM, 0.1, np.float32).tobytes())
    os.utime(target, (1e9, 1e9))
    assert target.stat().st_ino == inode
    assert built.index().due() is None
    assert "vectors.f32" in index.verify()[0]
    built.assert_exact(index)
    built.assert_exact(built.index())  # nor does anyone else trust the stamp now


# ----------------------------------------------------------------------------------- files as written, but not so


def test_a_catalog_that_changed_behind_the_index_is_noticed(built: Built, caplog: pytest.LogCaptureFixture) -> None:
    """As after a restored backup that gave old ids to new segments."""
    index = built.index()
    found = index.search(built.query, 20).ids[0]
    built.source.replace(int(found[3]), -built.query[0])
    built.truth = built.source.nearest(built.query[0], 20)[0]
    assert found[3] not in built.truth
    built.assert_exact(index)
    assert "not those of the catalog" in caplog.text
    assert "not those of the catalog" in index.verify()[0]
    built.assert_heals(index)


def test_scores_notice_it_as_well(built: Built) -> None:
    index = built.index()
    built.source.replace(7, built.query[0])
    assert index.scores(built.query, np.array([6, 7, 8]))[0, 1] == pytest.approx(1.0)
    assert index.due()


def test_segments_lost_without_a_word_are_not_answered(built: Built) -> None:
    index = built.index()
    lost = index.search(built.query, 20).ids[0, :7]
    built.source.forget(lost)
    built.truth = built.source.nearest(built.query[0], 20)[0]
    built.assert_exact(index)
    assert "never told" in str(index.due())


def test_a_catalog_older_than_its_index_is_noticed(built: Built) -> None:
    built.source.rewind(10)
    index = built.index()
    built.assert_exact(index)
    assert "backup" in str(index.due())


def test_verify_compares_all_that_is_stored(built: Built) -> None:
    for break_it, words in (
        (lambda source: source.replace(999, clustered(1, DIM, seed=77)[0]), "1 of 2500 vectors"),
        (lambda source: source.forget(np.array([4, 5])), "the catalog 2498"),
    ):
        built.source = source_of()
        index = built.index()
        assert index.verify() == []
        break_it(built.source)  # type: ignore[no-untyped-call]
        assert any(words in line for line in index.verify())
        assert index.due()
        assert built.index().due() is None  # a matter between this catalog and this index, not of its files


def test_verify_allows_for_what_came_and_went(built: Built) -> None:
    built.source.add(clustered(30, DIM, seed=5))
    built.source.remove(built.source.ids[[3, 700, -1]])
    assert built.index().verify() == []


# ----------------------------------------------------------------------------------------------------------- builders


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Another process, with the tests' modules at hand."""
    paths = [str(Path(__file__).resolve().parent), os.environ["PYTHONPATH"]]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done


BUILD = """
import os, signal, sys
from pathlib import Path
from memory_source import MemorySource, clustered
from e2vsearch.vectors.faiss.index import FaissEngine
folder, kind, fatal = sys.argv[1:]
def progress(stage, done, total):
    if stage == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
print(FaissEngine(Path(folder), MemorySource(clustered(2500, 32))).build(kind, progress).kind)
"""


@pytest.mark.parametrize("stage", ["read", "tune", "write"])
def test_a_builder_killed_leaves_the_old_generation_and_no_litter_for_long(built: Built, stage: str) -> None:
    index = built.index()
    before = built.current
    done = run_python(BUILD, built.folder, "ivf-flat", stage)
    assert done.returncode == -signal.SIGKILL
    assert list(built.root.glob(".building-*"))
    assert built.current == before
    assert not index.search(built.query, 20).exact
    assert index.due() is None
    index.build("ivf-flat")
    assert not list(built.root.glob(".building-*"))
    assert index.verify() == []


def test_what_another_process_builds_is_seen(built: Built) -> None:
    index = built.index()
    assert not index.search(built.query, 20).exact
    assert run_python(BUILD, built.folder, "flat", "never").stdout == "flat\n"
    assert index.search(built.query, 20).exact
    assert index.status().kind == "flat"
    assert index.status().damage is None


def test_one_builder_at_a_time(tmp_path: Path) -> None:
    index = FaissEngine(tmp_path, source_of(1200))
    other = FaissEngine(tmp_path, index._source)
    refused: list[str] = []

    def meanwhile(stage: str, done: int, total: int) -> None:
        if stage == "read":
            with pytest.raises(GenerationBusy) as caught:
                other.build()
            refused.append(str(caught.value))

    index.build("flat", meanwhile)
    assert str(tmp_path) in refused[0]
    other.build("flat")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    index = FaissEngine(blocked, source_of(1200))
    with pytest.raises(GenerationError, match="cannot be written") as caught:
        index.build()
    assert "\n" not in str(caught.value)
    assert index.search(clustered(1, DIM), 3).ids.min() > 0


class Unordered(MemorySource):
    """Gives its segments in the wrong order."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        super().__init__(vectors)
        self.ids = self.ids[::-1]


def test_a_source_out_of_order_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    index = FaissEngine(tmp_path, Unordered(clustered(1200, DIM)))
    with pytest.raises(GenerationError, match="order"):
        index.build("flat")
    assert [path.name for path in (tmp_path / "generations").iterdir()] == []
