"""Lists written a part of the rows at a time: the same file as FAISS's own, in bounded memory. With the real FAISS."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from memory_source import clustered
from numpy.typing import NDArray

from e2vsearch.errors import GenerationError
from e2vsearch.vectors import exact
from e2vsearch.vectors.faiss import builder, ivf_writer
from e2vsearch.vectors.faiss.ivf import Ivf, _threads, faiss_module
from e2vsearch.vectors.faiss.nprobe import TuningData

KINDS = ("ivf-rabitq", "ivf-flat")
N, LISTS = 5000, 300


def rows_of(dim: int) -> NDArray[np.float32]:
    return exact.unit32(clustered(N, dim))


def fill(
    kind: str, rows: NDArray[np.float32], path: Path, lists: int = LISTS, part_rows: int = 16_384
) -> list[tuple[str, int, int]]:
    calls: list[tuple[str, int, int]] = []
    ivf_writer.fill(kind, rows, rows[:lists], 3, path, lambda *each: calls.append(each), part_rows)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("dim", [64, 2048], ids=["all centres compared", "codes of centres"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_what_faiss_writes(kind: str, dim: int, tmp_path: Path) -> None:
    rows = rows_of(dim)
    fill(kind, rows, tmp_path / "ivf", part_rows=700)  # several, and the last one short
    faiss = faiss_module()
    index, inner, rotation = ivf_writer._empty(kind, rows[:LISTS], 3)
    for start in range(0, N, 700):
        index.add(rows[start : start + 700])
    if dim == 2048:
        coded = ivf_writer._coded(inner.quantizer, None if rotation is not None else ivf_writer._rotation(dim, 4))
        inner.quantizer = coded
    written = io.BytesIO()
    faiss.write_index(index, faiss.PyCallbackIOWriter(written.write))
    assert (tmp_path / "ivf").read_bytes() == written.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_lists_without_rows_and_one_that_holds_all(kind: str, tmp_path: Path) -> None:
    rows = rows_of(32)
    near = np.abs(rows)  # all on the other side of every centre but the first
    centres = np.concatenate([near[:1], -near[:40]])
    ivf_writer.fill(kind, near, centres, 0, tmp_path / "ivf", lambda *_: None)
    ivf = Ivf.read(tmp_path / "ivf", N, 32, 41)
    assert ivf.sizes.tolist() == [N, *[0] * 40]
    assert (np.sort(ivf.search(rows[:2], N, 41), axis=1) == np.arange(N)).all()


def test_progress_covers_both_passes(tmp_path: Path) -> None:
    calls = fill("ivf-flat", rows_of(16), tmp_path / "ivf", part_rows=2000)
    assert calls == [(stage, done, N) for stage in ("assign", "add") for done in (0, 2000, 4000, N)]


@pytest.fixture
def two_threads() -> Iterator[None]:
    """FAISS with two threads, whatever OMP_NUM_THREADS gives it."""
    faiss = faiss_module()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    _threads.cache_clear()
    yield
    faiss.omp_set_num_threads(before)
    _threads.cache_clear()


@pytest.mark.slow
def test_a_query_before_leaves_a_build_its_threads(two_threads: None, tmp_path: Path) -> None:
    faiss = faiss_module()
    rows = rows_of(16)
    fill("ivf-flat", rows, tmp_path / "ivf")
    Ivf.read(tmp_path / "ivf", N, 16, LISTS).search(rows[:1], 5, 4)
    assert faiss.omp_get_max_threads() == 1
    threads: dict[str, int] = {}

    def note(stage: str, *_: int) -> None:
        threads[stage] = faiss.omp_get_max_threads()

    builder.fit("ivf-flat", TuningData(rows, np.arange(N), rows[:0], 0.5, 0, note), tmp_path / "ivf")
    assert all(threads[stage] > 1 for stage in ("train", "assign", "add"))


def test_who_has_a_file_mapped_keeps_it_when_it_is_written_anew(tmp_path: Path) -> None:
    rows = rows_of(32)
    fill("ivf-flat", rows, tmp_path / "ivf")
    before = Ivf.read(tmp_path / "ivf", N, 32, LISTS)
    found = before.search(rows[:50], 10, LISTS)
    before.release_pages()
    fill("ivf-rabitq", rows[::-1], tmp_path / "ivf")
    np.testing.assert_array_equal(before.search(rows[:50], 10, LISTS), found)


def test_a_faiss_with_another_file_layout_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf_writer, "_LENGTH_BYTES", 4)
    with pytest.raises(GenerationError, match=r"FAISS 1\.\S+ has another file layout .* pip install"):
        fill("ivf-rabitq", rows_of(16), tmp_path / "ivf")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110 - a device
def test_a_full_disk_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ivf").symlink_to("/dev/full")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        fill("ivf-flat", rows_of(64), tmp_path / "ivf")


_BUILDER = """
import sys
from collections.abc import Iterator
from pathlib import Path
import numpy as np
from e2vsearch.files import open_mapped as mapped
from e2vsearch.vectors.faiss.ivf_writer import fill
from e2vsearch.vectors.faiss.ivf import Ivf, _threads, faiss_module
from e2vsearch.vectors.faiss.nprobe import Trial
N, DIM, LISTS = 240_000, 256, 512
rows = mapped(Path(sys.argv[1]), np.float32, (N, DIM))
def resident(most):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(most)) >> 10
faiss_module()
before = resident("VmRSS")
fill("ivf-flat", rows, rows[:LISTS], 0, Path(sys.argv[2]), lambda *_: None)
ivf = Ivf.read(Path(sys.argv[2]), N, DIM, LISTS)
assert Trial(ivf, rows, rows[:256], np.arange(256), 20).recall(20, 64, 1).recall > 0.9
print(resident("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_build_holds_parts_of_what_it_reads_and_writes(tmp_path: Path) -> None:
    """Of 246 MB of rows and as many of lists, each visited by some query: FAISS alone would hold twice the latter."""
    with (tmp_path / "rows").open("wb") as file:
        for seed in range(8):
            file.write(exact.unit32(clustered(30_000, 256, seed)).tobytes())
    command = [sys.executable, "-c", _BUILDER, tmp_path / "rows", tmp_path / "ivf"]
    built = subprocess.run(command, capture_output=True, text=True, check=True)  # type: ignore[arg-type]
    assert int(built.stdout) < 200
