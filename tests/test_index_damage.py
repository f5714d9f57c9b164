"""Random bits flipped in any file of an index, and disks that fill up: noticed or harmless, never a wrong answer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from memory_source import MemorySource, clustered

from e2vsearch.errors import GenerationError
from e2vsearch.vectors.engine import Kind
from e2vsearch.vectors.faiss.index import FaissEngine
from e2vsearch.vectors.query_log import QUERIES

DIM, N, K = 16, 2400, 10
FLIPS = int(os.environ.get("E2VSEARCH_TEST_FLIPS", "25"))  # 1,000 take two minutes


class Whole:
    """An index of a kind, tuned once and asked before, and its one right answer."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.folder = folder
        self.source = MemorySource(clustered(N, DIM))
        self.queries = clustered(40, DIM, seed=9)
        index = FaissEngine(folder, self.source)
        index.build(kind)
        index.tune(0.9)
        for query in self.queries:
            index.search(query[None], K)
        index.tune(0.9)
        self.answers = index.search(self.queries, K)
        self.truth = index.search(self.queries, K, compare_all=True)


@pytest.fixture(scope="module", params=["flat", "ivf-rabitq"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"), request.param)


def flipped(folder: Path, bit: int) -> str:
    """Flips one bit of all that the folder's files hold, counted through; gives the file's name."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size * 8
        if bit < size:
            content = bytearray(path.read_bytes())
            content[bit // 8] ^= 1 << bit % 8
            path.write_bytes(content)
            return path.name
        bit -= size
    raise AssertionError("there are not so many bits")


def test_no_flipped_bit_makes_a_wrong_answer(whole: Whole, tmp_path: Path) -> None:
    """Over small files as over large ones: every second flip is in one of those that say what the others must be."""
    rng = np.random.default_rng(0)
    files = sorted(path for path in whole.folder.rglob("*") if path.is_file() and path.stat().st_size)
    starts = np.cumsum([0, *(path.stat().st_size * 8 for path in files)])
    harmless = 0
    for number in range(FLIPS):
        copy = tmp_path / str(number)
        shutil.copytree(whole.folder, copy)
        if number % 2:
            bit = int(rng.integers(starts[-1]))
        else:
            at = int(rng.integers(len(files)))
            bit = int(rng.integers(starts[at], starts[at + 1]))
        name = flipped(copy, bit)
        index = FaissEngine(copy, whole.source)
        found = index.search(whole.queries, K)
        noticed = bool(index.due() or FaissEngine(copy, whole.source).verify())
        if noticed:
            np.testing.assert_array_equal(found.ids, whole.truth.ids, err_msg=f"bit {bit} of {name}")
            np.testing.assert_array_equal(found.scores, whole.truth.scores)
            assert found.exact
        else:
            harmless += 1
            assert name == QUERIES or name.endswith((".verified", ".tuned")), f"bit {bit} of {name} went unnoticed"
            np.testing.assert_array_equal(found.ids, whole.answers.ids, err_msg=f"bit {bit} of {name}")
        shutil.rmtree(copy)
    assert harmless < FLIPS / 2


@pytest.mark.slow
def test_what_is_broken_is_built_again(whole: Whole, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole.folder, copy)
    flipped(copy / "generations", 100_000)
    index = FaissEngine(copy, whole.source)
    assert index.due()
    index.build()
    assert (index.due(), index.verify()) == (None, [])
    assert index.status().kind != "none"


# ---------------------------------------------------------------------------------------------------------------- full

FULL = """
import resource, sys
from pathlib import Path
from memory_source import MemorySource, clustered
from e2vsearch.errors import GenerationError
from e2vsearch.vectors.faiss.index import FaissEngine
folder, n, dim, kind, limit = Path(sys.argv[1]), *map(int, sys.argv[2:4]), sys.argv[4], int(sys.argv[5])
index = FaissEngine(folder, MemorySource(clustered(n, dim)))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # as a full disk: no file grows beyond it
try:
    index.build(kind)
    print("built")
except GenerationError as error:
    print(error)
"""


def run_full(folder: Path, kind: str, limit: int) -> str:
    """A build in a process whose files may not grow beyond `limit` bytes; what it said."""
    pytest.importorskip("resource")
    paths = [str(Path(__file__).resolve().parent), os.environ["PYTHONPATH"]]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folder), str(N), str(DIM), kind, str(limit)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("short_of", [None, 100_000, 5, 0])
def test_a_full_disk_ends_a_build_and_nothing_else(whole: Whole, short_of: int | None, tmp_path: Path) -> None:
    """Bytes for all but the last few of its largest file, for all of it, or for hardly any."""
    copy = tmp_path / "copy"
    shutil.copytree(whole.folder, copy)
    index = FaissEngine(copy, whole.source)
    before = index.status()
    largest = FaissEngine(tmp_path / "probe", whole.source).build("ivf-flat").files["ivf.faiss"].size
    limit = 100 if short_of is None else largest - short_of
    said = run_full(copy, "ivf-flat", limit)
    if short_of == 0:
        assert said == "built\n"
        return
    assert said.startswith(f"the index in {copy} cannot be written: ")
    assert said.endswith("choose another place\n")
    assert said.count("\n") == 1
    for each in (index, FaissEngine(copy, whole.source)):
        assert each.status() == before
        np.testing.assert_array_equal(each.search(whole.queries, K).ids, whole.answers.ids)
        assert each.verify() == []
    assert not list((copy / "generations").glob(".building-*"))
    index.build("ivf-flat")
    assert index.verify() == []


def test_a_disk_that_is_full_at_the_last_moment(whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is written, and only the pointer does not fit any more."""
    copy = tmp_path / "copy"
    shutil.copytree(whole.folder, copy)
    index = FaissEngine(copy, whole.source)
    before = index.status()
    names = {path.name for path in (copy / "generations").iterdir()}

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("e2vsearch.vectors.faiss.publish.atomic_write", refuse)
        with pytest.raises(GenerationError, match=r"No space left on device - the disk is full: free some of it"):
            index.build("flat")
        with pytest.raises(GenerationError, match="No space left on device"):
            index.tune(0.5)
    assert index.status() == before
    assert {path.name for path in (copy / "generations").iterdir() if path.is_dir()} <= names
    assert index.verify() == []


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit on files here")
def test_a_query_is_answered_on_a_full_disk(whole: Whole, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole.folder, copy)
    (copy / QUERIES).unlink()
    for stamp in (copy / "generations").glob("*.verified"):
        stamp.unlink()
    code = FULL.replace("index.build(kind)", "index.search(clustered(3, dim, seed=4), 5)").replace("built", "answered")
    paths = [str(Path(__file__).resolve().parent), os.environ["PYTHONPATH"]]
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy), str(N), str(DIM), "flat", "0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "answered\n"), done.stderr
