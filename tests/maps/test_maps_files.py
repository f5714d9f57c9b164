"""The files of a map: points, pictures, and the page that holds everything and runs nothing of the data."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from made import save, sine
from made_maps import EVIL, MOODS, START

from e2vsearch.analysis.maps import clips, dataset, label_placement, output, palette
from e2vsearch.analysis.maps import html as page
from e2vsearch.analysis.maps.types import Proportion
from e2vsearch.collection import Collection
from e2vsearch.errors import AnalysisError
from e2vsearch.palette import CATEGORIES, EMOTIONS, GREY, colour_of


def test_parquet_holds_points_with_what_is_known(collection: Collection, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    drawn = collection.maps.load()
    output.write(collection.maps, drawn, tmp_path / "map.parquet", "http://127.0.0.1:8080/")
    table = parquet.read_table(tmp_path / "map.parquet")
    assert table.num_rows == len(drawn.ids)
    np.testing.assert_array_equal(table["x"].to_numpy(), drawn.x)
    first = table.slice(0, 1).to_pylist()[0]
    assert first["id"] == "seg:1"
    assert first["name"] == EVIL
    assert first["meta.queue"] == "other"
    assert first["score.angry"] == pytest.approx(0.8)
    assert first["arousal"] == pytest.approx(((0.8 * 0.59 - 0.1 * 0.27) / 0.9 + 1) / 2)  # calm has no entry
    assert first["valence"] == pytest.approx(((-0.8 * 0.51 - 0.1 * 0.63) / 0.9 + 1) / 2)
    assert first["audio"] == "http://127.0.0.1:8080/segments/seg:1/audio?sha256=" + 16 * "0"
    assert first["recorded_at"] == START


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_picture_is_drawn_the_same_twice(collection: Collection, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    drawn = collection.maps.load()
    risky = replace(drawn.clusters[0], name="$\\frac{$ <b>")  # neither mathematics nor markup
    drawn = replace(drawn, clusters=(risky, *drawn.clusters[1:]))
    for name in ("one", "two"):
        output.write(collection.maps, drawn, tmp_path / f"{name}{suffix}")
    one = (tmp_path / f"one{suffix}").read_bytes()
    assert one == (tmp_path / f"two{suffix}").read_bytes()
    assert one.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
    assert suffix == ".png" or (b"queue=" in one and b"&lt;b&gt;" in one)


@pytest.fixture(scope="module")
def html(made: Path) -> str:
    pytest.importorskip("bokeh")
    with Collection.open(made, create=True) as collection:
        drawn = collection.maps.load()
        central = drawn.clusters[0].segments[0]
        save(Path(collection.recordings(central.recording)[0].uri), sine(4.0))
        data = dataset.load_points(collection.maps, "segment", drawn.ids, None)
        return page.render(drawn, data, clips.clips(collection.maps, drawn.clusters), "http://127.0.0.1:8080")


def test_page_holds_everything_and_runs_nothing_of_the_data(html: str, collection: Collection) -> None:
    data = json.loads(html.partition('id="data">')[2].partition("</script>")[0])
    assert EVIL in data["recordings"]  # it is there
    assert EVIL not in html  # and not as markup
    assert "<script>alert" not in html
    assert data["clusters"][0]["segments"][0]["segment"] in data["clips"]
    assert next(iter(data["clips"].values())).startswith("data:audio/ogg;base64,T2dnU")  # "OggS"
    assert len(data["missing"]) == sum(len(cluster["segments"]) for cluster in data["clusters"]) - len(data["clips"])
    assert [mode["name"] for mode in data["modes"]] == ["cluster", "emotion", "queue"]
    assert len(data["sound_keys"]) == len(data["recordings"])
    assert data["central_keys"].keys() == {
        each["segment"] for cluster in data["clusters"] for each in cluster["segments"]
    }
    assert set(data["central_keys"].values()) <= set(data["sound_keys"]) == {16 * "0"}
    assert all(len(mode["names"]) == len(mode["colours"]) for mode in data["modes"])
    emotions = data["modes"][1]
    assert dict(zip(emotions["names"], emotions["colours"], strict=True)) == {
        "none": GREY.light,
        **{name: colour_of(name).light for name in MOODS},
    }
    assert "Click a point to hear it, from http://127.0.0.1:8080." in html
    item = json.loads(html.partition('id="item">')[2].partition("</script>")[0])
    assert item["target_id"] == "drawn"
    assert "media-src data: http://127.0.0.1:8080;" in html
    assert "cdn.bokeh" not in html.partition("<script>")[0]
    assert not {"@MEDIA@", "@TITLE@", "@DATA@", "@ITEM@", "@BOKEH@"} & set(html.split())


def test_page_shows_what_is_not_named_paler_than_any_emotion(collection: Collection) -> None:
    pytest.importorskip("bokeh")
    drawn = collection.maps.load()
    data = dataset.load_points(collection.maps, "segment", drawn.ids, None)
    points = tuple(
        replace(each, emotion="unsure", emotion_score=None) if at % 2 else each for at, each in enumerate(data.points)
    )
    html = page.render(drawn, replace(data, points=points), None, None)
    data = json.loads(html.partition('id="data">')[2].partition("</script>")[0])
    mode = next(mode for mode in data["modes"] if mode["name"] == "emotion")
    shades = dict(zip(mode["names"], mode["colours"], strict=True))
    assert shades["unsure"] == EMOTIONS["unsure"].light
    assert len({*shades.values()}) == len(shades)
    assert f"0 of {len(drawn.ids)} segments have sound in this file" in html


@pytest.mark.parametrize(
    "address", ["file:///etc", "127.0.0.1:8080", "http://a b", "http://x;script-src *", "http://h:99999"]
)
def test_page_takes_no_address_that_is_none(collection: Collection, address: str) -> None:
    pytest.importorskip("bokeh")
    drawn = collection.maps.load()
    data = dataset.load_points(collection.maps, "segment", drawn.ids, None)
    with pytest.raises(AnalysisError, match="--audio-url"):
        page.render(drawn, data, None, address)


def test_clips_stop_at_their_limit(collection: Collection, html: str) -> None:
    assert clips.clips(collection.maps, collection.maps.load().clusters, limit_bytes=10).sounds == {}


def test_file_of_another_kind_or_place_is_refused(collection: Collection, tmp_path: Path) -> None:
    drawn = collection.maps.load()
    with pytest.raises(AnalysisError, match="suffix"):
        output.write(collection.maps, drawn, tmp_path / "map.gif")
    pytest.importorskip("matplotlib")
    with pytest.raises(AnalysisError, match="cannot be written"):
        output.write(collection.maps, drawn, tmp_path / "nowhere" / "map.png")


def test_clusters_have_the_colour_of_their_main_emotion(collection: Collection) -> None:
    one = collection.maps.load().clusters[0]
    sad = replace(one, emotions=(Proportion("neutral", 6, 0.6, 1.0), Proportion("sad", 4, 0.4, 2.0)))
    mixed = replace(one, emotions=(Proportion("neutral", 4, 0.4, 1.0), Proportion("unsure", 6, 0.6, 2.0)))
    row = [replace(each, number=at) for at, each in enumerate((sad, mixed, sad, mixed))]
    colours = palette.colours(row)
    assert colours[0] == EMOTIONS["sad"].light
    assert colours[1] == CATEGORIES[0].light
    assert len({*colours.values()}) == 5
    assert colours[-1] == GREY.light


def test_a_date_that_is_the_file_s_own_is_not_shown(collection: Collection) -> None:
    (_, recording), *_ = collection.catalog.recordings()
    assert page._date(replace(recording, recorded_at=START)) == "2024-03-01"
    assert page._date(replace(recording, recorded_at=START, mtime_ns=int(START.timestamp() * 1e9))) == ""


def test_names_do_not_lie_on_each_other() -> None:
    boxes = [(0.0, 0.0, 1.0, 0.2)] * 5 + [(1.9, 0.0, 0.6, 0.2)]
    centres = label_placement.place_labels(boxes, (-1.0, -1.0, 1.0, 1.0))
    heights = sorted(y for _, y in centres[:5])
    assert all(second - first >= 0.2 - 1e-9 for first, second in pairwise(heights))
    assert centres[5][0] == pytest.approx(0.7)
