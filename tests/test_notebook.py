"""What a notebook shows: escaped, bounded, with sound, a strip and a map; and the tour runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from small_collection import SAID, make_collection
from test_timeline import ANGRY, CALM, SPACE, WHEN, made_call

import e2vsearch
from e2vsearch.analysis.maps.types import Cluster, Map, MapOptions
from e2vsearch.analysis.timeline import Timeline
from e2vsearch.collection import Collection
from e2vsearch.notebook import scatter
from e2vsearch.notebook.hits import hit_table
from e2vsearch.notebook.strip import Row, strip
from e2vsearch.palette import colour_of
from e2vsearch.speech.dynamics import dynamics

TOUR = Path(__file__).resolve().parent.parent / "examples" / "tour.ipynb"
EVIL = "<script>alert(1)</script>"
HARMLESS = "&lt;script&gt;alert(1)&lt;/script&gt;"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with e2vsearch.open(make_collection(tmp_path_factory.mktemp("shown"))) as collection:
        yield collection


def shown(value: Any) -> str:
    found: str = value._repr_html_()
    assert "<script" not in found
    ElementTree.fromstring(f"<div>{found.replace(' controls ', ' ')}</div>")  # well formed
    return found


def test_a_collection_is_its_figures(collection: Collection) -> None:
    found = shown(collection)
    for figure in ("<td>4, ", "<td>12, ", "none; 12 segments are compared one by one", str(collection.space)):
        assert figure in found, figure


def test_hits_have_their_sound_and_a_caption(collection: Collection) -> None:
    result = collection.query("seg:1", k=3)
    found = shown(result)
    assert found.count("<audio controls") == 3
    assert found.count("data:audio/wav;base64,") == 3
    assert f"3 hits for seg:1 among {result.searched:,} of 12 segments" in found
    assert SAID in found or "I want my refund" in found
    assert [name in found for name in ("score", "emotion", "said", "role")] == [True, True, True, False]


def test_many_hits_are_bounded_and_whatever_they_say_is_escaped(collection: Collection) -> None:
    (hit,) = collection.query("seg:1", k=1)
    evil = replace(hit, name=EVIL, text=EVIL, label=EVIL, emotion=EVIL, uri="/nowhere.wav")
    found = hit_table([evil] * 60, EVIL)
    assert "<script" not in found
    assert found.count(HARMLESS) == 50 * 4 + 1
    assert "… 10 more hits" in found
    assert "<audio" not in found  # the file is gone
    assert shown(collection.query("seg:1", where="wait > 999")).startswith("<p>0 hits")


def made_timeline(tmp_path: Path) -> Timeline:
    line: list[Sequence[float]] = [CALM] * 5 + [ANGRY] * 5
    spoken = dynamics([[(0.0, 2.0), (38.0, 50.0)], [(1.0, 36.0)]], 50.0)
    found = replace(made_call([], line, roles=("agent", "customer")), name=EVIL, dynamics=spoken)
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        collection.catalog.pin(SPACE, "made")
        collection.catalog.store(found)
        return collection.timeline("call:1")


def test_a_timeline_is_a_strip(tmp_path: Path) -> None:
    timeline = made_timeline(tmp_path)
    found = shown(timeline)
    assert HARMLESS in found
    assert found.count(f'fill="{colour_of("angry").light}"') == 5
    assert found.count(f'fill="{colour_of("neutral").light}"') == 5
    for words in ("0 agent", "not analysed", "1 customer", "overtalk", "silence", "▼ worsening 00:27.5", "00:50.0"):
        assert words in found, words
    assert "<title>00:27.5–00:29.5 angry 0.90</title>" in found  # noqa: RUF001 - a dash between numbers
    assert re.search(r"talk 96%, silence 4%, overtalk 2%, turns 3, interruptions 1", found)


def test_what_is_said_in_a_strip_is_escaped(tmp_path: Path) -> None:
    segments = [replace(each, text=EVIL, emotion=EVIL) for each in made_timeline(tmp_path).channels[1].segments]
    found = strip(50.0, [Row(EVIL, True, segments)], None, [])
    assert "<script" not in found
    assert HARMLESS in found


def test_a_recording_says_what_draws_it(tmp_path: Path) -> None:
    recording = replace(made_timeline(tmp_path).recording, metadata={"queue": EVIL, "bytes": "\udcff"})
    found = shown(recording)
    assert HARMLESS in found
    assert "collection.timeline('call:1') draws it" in found


def test_a_map_is_drawn_inline() -> None:
    count = 9000
    x = np.linspace(-1, 1, count, dtype=np.float32)
    numbers = np.where(np.arange(count) % 2, 0, -1).astype(np.int32)
    cluster = Cluster(0, f"angry {EVIL}", count // 2, 0.5, 3, 0.5, -0.5, (), (), (), (), "week", ())
    ids = np.arange(count)
    when = np.full(count, np.datetime64("2026-11-16"))
    options = MapOptions(min_samples=5, neighbors=15, dimensions=10)
    points = ids, ids, when, x, -x, numbers, np.ones(count, np.float32), np.zeros(count, bool)
    drawn = Map("map", "segment", "queue = <b>", WHEN, options, {}, *points, (cluster,), 0)
    found = shown(drawn)
    assert found.count("<circle") == count // 3
    assert HARMLESS in found
    assert "map: 9,000 segments in 1 clusters where queue = &lt;b&gt;; every 3th point is drawn" in found
    assert scatter.no_cluster() in found


def test_the_tour_has_no_outputs() -> None:
    tour = json.loads(TOUR.read_text(encoding="utf-8"))
    code = [cell for cell in tour["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's own packages
def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the tour needs nbformat, of the group test-all")
    nbclient = pytest.importorskip("nbclient", reason="the tour needs nbclient, of the group test-all")
    pytest.importorskip("ipykernel", reason="the tour needs ipykernel, of the group test-all")
    pytest.importorskip("pandas", reason="the 'notebook' extra is not installed")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(TOUR.parent.parent))
    tour = nbformat.read(TOUR, as_version=4)
    client = nbclient.NotebookClient(tour, timeout=600, resources={"metadata": {"path": str(TOUR.parent)}})
    client.execute()
    outputs = [out["data"] for cell in tour.cells if cell.cell_type == "code" for out in cell.outputs if "data" in out]
    pages = ["".join(data.get("text/html", "")) for data in outputs]
    assert "12, " in pages[0]  # the collection
    assert pages[1].count("<audio") == 5
    assert any("<svg" in page and "not analysed" in page for page in pages)
