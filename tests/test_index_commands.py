"""``index build | tune | status | verify | drop`` on a collection that is large enough for lists."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import stress
from command import Run

import e2vsearch
from e2vsearch import settings
from e2vsearch.errors import SettingsError
from e2vsearch.vectors.faiss import gpu
from e2vsearch.vectors.query_log import QUERIES


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection's folder with 1,600 segments; tests copy it."""
    folder = tmp_path_factory.mktemp("stored")
    stress.first(f"sqlite:///{folder}/catalog.db", folder)
    return folder


@pytest.fixture
def index(stored: Path, tmp_path: Path) -> Path:
    from e2vsearch.catalog.backup import backup
    from e2vsearch.catalog.database import parse_url

    backup(parse_url(f"sqlite:///{stored}/catalog.db"), tmp_path / "index" / "catalog.db")
    return tmp_path / "index"


def facts(run: Run, index: Path, *more: str) -> dict[str, str]:
    """The table that a person sees."""
    lines = run("index", "status", "--index", index, "--format", "table", *more).out.splitlines()
    return {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in lines if "  " in line}


@pytest.mark.slow
def test_the_life_of_an_index(run: Run, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a fact a line
    at = ("--index", index)
    assert run("index", "build", "--kind", "ivf-flat", "--recall", "0.9", *at).code == 0
    state = json.loads(run("index", "status", *at).out)
    assert (state["kind"], state["target"], state["n"]) == ("ivf-flat", 0.9, stress.FIRST * stress.SEGMENTS)
    assert state["recall"] >= 0.9
    assert (state["sample_stored"], state["sample_queries"]) == (200, 0)
    seen = facts(run, index)
    assert seen["recall"].startswith(
        f"{state['recall']:.3f} of the exact top 20 (target 0.9), on 200 stored vectors, 20"
    )
    assert seen["lists"].startswith("made for 1,600 segments, 20")

    for number in range(1, 41):
        assert run("query", f"seg:{number * 30}", "--by", "segment", *at).code == 0
    tuned = run("index", "tune", "--recall", "0.95", *at)
    assert tuned.code == 0
    assert json.loads(tuned.out)["target"] == 0.95
    assert " and the last " in facts(run, index)["recall"]
    assert "drift" not in facts(run, index, "--measure")
    again = json.loads(run("index", "build", *at).out)
    assert (again["kind"], again["tuned"]["target"]) == ("ivf-flat", 0.95)
    assert run("index", "verify", *at, "-f", "table").out == "intact\n"
    checked = {row["name"]: row for row in run("doctor", *at, "--format", "jsonl").rows}
    assert checked["recall"]["ok"]
    assert "of the exact top 20" in checked["recall"]["found"]

    assert run("index", "drop", "--yes", *at).rows == [{"generations": 2}]
    assert json.loads(run("index", "status", *at).out)["kind"] == "none"
    assert not (index / QUERIES).exists()
    assert run("index", "drop", "--yes", *at).rows == [{"generations": 0}]
    missing = run("index", "tune", *at)
    assert (missing.code, missing.err) == (1, "e2vsearch: there is no index to tune: e2vsearch index build\n")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["build", "--recall", "1.2"], 2, "--recall"),
        (["build", "--kind", "graph"], 2, "--kind"),
        (["build", "--kind", "hnsw"], 2, "use one of"),  # which other engines have
        (["build", "--engine", "elastic"], 2, "--engine"),
        (["tune", "--recall", "0"], 2, "--recall"),
        (["drop"], 1, ""),  # nobody there to say yes
    ],
)
def test_wrong_words(run: Run, index: Path, arguments: list[str], code: int, says: str) -> None:
    done = run("index", *arguments, "--index", index)
    assert (done.code, says in done.err) == (code, True), done.err


def test_a_gpu_that_is_not_there(
    run: Run, index: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faiss = pytest.importorskip("faiss")
    if gpu.count(faiss):
        pytest.skip("there is a GPU here")
    monkeypatch.setattr(gpu, "_told", set())
    done = run("index", "build", "--kind", "gpu", "--index", index)
    assert done.code == 0
    assert caplog.text.count("built on the CPU, and searched on a GPU where there is one: faiss-") == 1


def test_what_was_asked_is_kept_unless_a_setting_says_no(
    index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("E2VSEARCH_QUERY_LOG", "0")
    with e2vsearch.open(index, create=True) as collection:
        collection.index.build("ivf-flat")
        collection.query("seg:1", k=3)
    assert not (index / QUERIES).exists()
    monkeypatch.delenv("E2VSEARCH_QUERY_LOG")
    with e2vsearch.open(index, create=True) as collection:
        collection.query("seg:1", k=3)
    assert (index / QUERIES).exists()
    monkeypatch.setenv("E2VSEARCH_QUERY_LOG", "few")
    with pytest.raises(SettingsError, match="query_log must be a whole number"):
        settings.load()


def test_lists_find_what_a_query_would(index: Path) -> None:
    with e2vsearch.open(index, create=True) as collection:
        manifest = collection.index.build("ivf-rabitq", recall=0.95)
        assert manifest.trained is not None  # type: ignore[attr-defined]
        assert collection.index.build().trained == manifest.trained  # type: ignore[attr-defined]
        stages: list[str] = []
        collection.index.build(progress=lambda stage, _done, _total: stages.append(stage), retrain=True)
        assert "train" in stages
        vectors = np.concatenate([stress.vectors_of(number)[:1] for number in range(1, 60)])
        found, truth = (collection.index.engine.search(vectors, 20, compare_all=exact).ids for exact in (False, True))
        shares = [np.isin(row, real).mean() for row, real in zip(found, truth, strict=True)]
        assert np.mean(shares) >= 0.94


def test_a_restored_backup_is_indexed_anew(index: Path, tmp_path: Path) -> None:
    """Ids that the lost days had given out are given out again, to other segments."""
    with e2vsearch.open(index, create=True) as collection:
        collection.backup(tmp_path / "kept.db")
        collection.catalog.store(stress.recording(5001))
        collection.index.build("ivf-flat")
    (tmp_path / "kept.db").replace(index / "catalog.db")
    for left in ("catalog.db-wal", "catalog.db-shm"):
        (index / left).unlink(missing_ok=True)
    with e2vsearch.open(index, create=True) as collection:
        number = collection.catalog.store(stress.recording(5002)).id
        ids, _ = collection.catalog.segments_of([number])
        found = collection.index.engine.search(stress.vectors_of(5002), 5)
        assert found.ids[:, 0].tolist() == np.sort(ids).tolist()
        np.testing.assert_allclose(found.scores[:, 0], 1.0, atol=1e-6)
        assert collection.index.engine.due()
        collection.index.build()
        assert collection.index.engine.verify() == []
