"""The kind ``gpu``: searched on a GPU where FAISS has one, on the CPU elsewhere, which is said once."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from memory_source import MemorySource, clustered

from e2vsearch import doctor
from e2vsearch.vectors.faiss import gpu, ivf_writer
from e2vsearch.vectors.faiss.index import FaissEngine
from e2vsearch.vectors.faiss.ivf import Ivf

faiss = pytest.importorskip("faiss")
DIM, N = 32, 1500


@pytest.fixture(autouse=True)
def silent_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_told", set())


def test_without_a_gpu_the_cpu_builds_and_searches_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if gpu.count(faiss):
        pytest.skip("there is a GPU here")
    queries = clustered(4, DIM, seed=3)
    with caplog.at_level(logging.WARNING, logger="e2vsearch"):
        source = MemorySource(clustered(N, DIM))
        index = FaissEngine(tmp_path, source)
        built = index.build("gpu")
        assert (built.kind, index.status().requested_kind) == ("ivf-flat", "gpu")
        for opened in (index, FaissEngine(tmp_path, source)):
            found = opened.search(queries, 10)
            assert (found.ids == opened.search(queries, 10, compare_all=True).ids).mean() >= 0.95
        index.build("gpu")
    why = str(gpu.missing(faiss))
    assert [record.getMessage().removesuffix(why) for record in caplog.records] == [
        "the index is built on the CPU, and searched on a GPU where there is one: ",
        "the index is searched on the CPU: ",
    ]


def test_a_gpu_finds_the_same(tmp_path: Path) -> None:
    if not gpu.count(faiss):
        pytest.skip(f"no GPU: {gpu.missing(faiss)}")
    index = FaissEngine(tmp_path, MemorySource(clustered(N, DIM)))
    index.build("gpu")
    queries = clustered(16, DIM, seed=3)
    found, truth = index.search(queries, 10).ids, index.search(queries, 10, compare_all=True).ids
    assert np.mean([np.isin(real, row).mean() for real, row in zip(truth, found, strict=True)]) >= 0.95


def test_what_is_copied_has_exact_centroids_and_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many lists as are looked up by codes, which no GPU takes."""
    monkeypatch.setattr(ivf_writer, "_CENTROID_BYTES", 0)
    vectors, centroids = clustered(N, DIM), clustered(16, DIM, seed=2)
    ivf_writer.fill("ivf-flat", vectors, centroids, 0, tmp_path / "lists", lambda *_: None)
    lists = Ivf.read(tmp_path / "lists", N, DIM, len(centroids))
    assert isinstance(faiss.downcast_index(lists._inner.quantizer), faiss.IndexRefine)
    copy = gpu.flat_lists(faiss, lists._inner, lists._centroid_index)
    assert isinstance(faiss.downcast_index(copy.quantizer), faiss.IndexFlat)
    copy.nprobe = len(centroids)
    queries = clustered(4, DIM, seed=3)
    assert (copy.search(queries, 10)[1] == lists.search(queries, 10, len(centroids))).all()


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ((), ""),
        (("faiss_gpu",), "faiss-cpu {0} and faiss-gpu 1.15.1 exclude each other: both are the package faiss"),
        (("faiss_gpu_cu12", "faiss_gpu"), "and faiss-gpu-cu12 1.15.1 exclude each other"),
    ],
)
def test_doctor_tells_of_two_in_one_folder(
    others: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not doctor._installed("faiss-cpu") or doctor._installed("faiss-gpu"):
        pytest.skip("another FAISS than the core's is installed")
    for name in others:
        folder = tmp_path / f"{name}-1.15.1.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.4\nName: {name.replace('_', '-')}\nVersion: 1.15.1\n"
        (folder / "METADATA").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = next(each for each in doctor._packages() if each.name == "faiss")
    assert check.ok == (not others)
    if others:
        assert says.format(version("faiss-cpu")) in check.found
        assert "the one without GPUs is imported" in check.found
        assert check.cure.startswith("pip uninstall -y faiss-cpu faiss-gpu")
        assert check.cure.endswith("&& pip install 'faiss-gpu==1.15.1'")
