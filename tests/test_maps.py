"""Maps: layout, clusters and what is said of them, placing, growth, and the files. Made of three moods in 16-d."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from made import save, sine, speech

import e2vsearch
from e2vsearch.analysis import maps
from e2vsearch.analysis.maps import (
    MapOptions,
    chance,
    describing,
    lettering,
    material,
    page,
    palette,
    placing,
    projecting,
    sounds,
)
from e2vsearch.catalog import Catalog, NewRecording, NewSegment
from e2vsearch.catalog import maps as stored
from e2vsearch.collection.opened import Collection
from e2vsearch.errors import AnalysisError, BadFilter, MissingExtra, NotStored
from e2vsearch.space import Space

DIM, CALLS, SEGMENTS = 16, 60, 3
MOODS = ("angry", "calm", "sad")
SPACE = Space("made", "1", DIM, MOODS, "raw")
START = datetime(2024, 3, 1, tzinfo=UTC)
EVIL = "<script>alert(1)</script>"
OPTIONS = MapOptions(min_cluster_size=12)


def mood_of(call: int) -> int:
    """Even thirds in the first four weeks, then mostly sad."""
    return call % 3 if call < 36 else (2 if call % 8 else 0)


def vector(mood: int, rng: np.random.Generator, spread: float = 0.12) -> np.ndarray:
    middle = np.zeros(DIM, np.float32)
    middle[mood] = 1.0
    return (middle + spread * rng.standard_normal(DIM)).astype(np.float32)


def recording(call: int, folder: Path, vectors: list[np.ndarray], mood: int) -> NewRecording:
    name = EVIL if call == 0 else f"call{call}"
    scores = np.full(len(MOODS), 0.1, np.float32)
    scores[mood % len(MOODS)] = 0.8
    segments = [NewSegment(0, 1.5 * at, 1.5 * at + 1.2, each, scores) for at, each in enumerate(vectors)]
    return NewRecording(
        uri=str(folder / f"{call}.wav"),
        name=name,
        content_sha256=f"{call:064d}",
        size_bytes=1,
        mtime_ns=1,
        recorded_at=START + timedelta(days=28 * call / 36 if call < 36 else 28 + 7 * (call - 36) / 24),
        duration_s=5.0,
        channels=1,
        sampling_rate_hz=16_000,
        format="WAV",
        segments=tuple(segments),
        metadata={"queue": ("billing", "sales", "support")[mood] if call % 5 else "other", "ticket": f"T{call}"},
    )


def filled(folder: Path) -> Collection:
    collection = Collection.open(folder)
    collection.catalog.pin(SPACE, "saved")
    rng = np.random.default_rng(5)
    for call in range(CALLS):
        vectors = [vector(mood_of(call), rng) for _ in range(SEGMENTS)]
        collection.catalog.store(recording(call, folder, vectors, mood_of(call)))
    return collection


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and its map: umap's compiler takes ten seconds, so it is made once."""
    for module in ("umap", "sklearn", "scipy"):
        pytest.importorskip(module, reason="the 'map' extra is not installed")
    folder = tmp_path_factory.mktemp("maps") / "index"
    with filled(folder) as collection:
        maps.make(collection, options=OPTIONS)
    return folder


@pytest.fixture
def collection(made: Path) -> Iterator[Collection]:
    """The collection, to be looked at only."""
    with Collection.open(made) as opened:
        yield opened


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Iterator[Collection]:
    """A copy, to be changed."""
    shutil.copytree(made, tmp_path / "copy")
    with Collection.open(tmp_path / "copy") as opened:
        yield opened


# --- made


def test_clusters_are_the_moods(collection: Collection) -> None:
    drawn = maps.load(collection)
    known = material.facts(collection, "segment", drawn.ids, None)
    assert len(drawn.ids) == CALLS * SEGMENTS
    assert [cluster.number for cluster in drawn.clusters] == [0, 1, 2]
    for cluster in drawn.clusters:
        inside = {
            item.emotion for item, number in zip(known.items, drawn.cluster, strict=True) if number == cluster.number
        }
        assert len(inside) == 1
    assert (drawn.cluster >= 0).mean() > 0.9
    sizes = [cluster.size for cluster in drawn.clusters]
    assert sizes == sorted(sizes, reverse=True)
    assert drawn.unplaced == 0


def test_coordinates_fill_the_square(collection: Collection) -> None:
    drawn = maps.load(collection)
    for axis in (drawn.x, drawn.y):
        assert axis.dtype == np.float32
        assert -1 <= axis.min() < axis.max() <= 1
    assert max(np.abs(drawn.x).max(), np.abs(drawn.y).max()) == pytest.approx(1.0)


def test_same_seed_gives_the_same_map_and_another_another(own: Collection) -> None:
    first = maps.load(own)
    again = maps.make(own, "again", options=OPTIONS)
    other = maps.make(own, "other", options=replace(OPTIONS, seed=7))
    for name in ("ids", "x", "y", "cluster", "strength"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert again.clusters == first.clusters
    assert not np.array_equal(first.x, other.x)


def test_description_says_what_a_person_can_act_on(collection: Collection) -> None:
    drawn = maps.load(collection)
    sad = next(cluster for cluster in drawn.clusters if cluster.emotions[0].name == "sad")
    assert sad.emotions[0].share == 1.0
    share = sum(mood_of(call) == 2 for call in range(CALLS)) / CALLS
    assert sad.emotions[0].lift == pytest.approx(1 / share)
    (queue,) = sad.metadata
    assert (queue.key, queue.value) == ("queue", "support")  # and no ticket: each call has its own
    assert queue.p < 0.001
    assert queue.expected == pytest.approx(queue.calls * sad.calls / CALLS)
    assert queue.lift == pytest.approx(queue.calls / queue.expected)
    assert sad.name == "sad · queue=support"
    assert len({moment.recording for moment in sad.moments}) == len(sad.moments) == 5
    assert all(moment.emotion == "sad" for moment in sad.moments)
    assert [moment.score for moment in sad.moments] == sorted((moment.score for moment in sad.moments), reverse=True)
    assert sad.period == "day"
    assert sum(step.of for step in sad.trend) == CALLS
    assert sum(step.calls for step in sad.trend) == sad.calls
    assert sad.trend[0].start == "2024-03-01"
    assert sum(cluster.share for cluster in drawn.clusters) == pytest.approx((drawn.cluster >= 0).mean())


def test_a_cluster_without_a_telling_emotion_is_mixed(collection: Collection) -> None:
    known = material.facts(collection, "segment", np.arange(1, 36 * SEGMENTS + 1), None)  # a third of each mood
    nothing = np.zeros(len(known.ids), np.float32)
    drawn = describing.Drawn(nothing, nothing, np.zeros(len(known.ids), np.int32), nothing)
    (only,) = describing.describe(known, material.vectors(collection, known), drawn)
    assert (only.name, only.metadata) == ("mixed", ())
    (kept,) = describing.describe(known, material.vectors(collection, known), drawn, {0: "as it was"})
    assert kept.name == "as it was"


def test_by_call_and_filter(own: Collection) -> None:
    drawn = maps.make(own, "calls", by="call", where="start_s < 2", options=MapOptions(min_cluster_size=5))
    assert len(drawn.ids) == CALLS
    np.testing.assert_array_equal(drawn.ids, drawn.recordings)
    assert len(drawn.clusters) == 3
    known = material.facts(own, "call", drawn.ids, drawn.where)
    assert len(known.moments) == 2 * CALLS
    found = material.vectors(own, known)
    first, second = found.moments[0], found.moments[1]
    np.testing.assert_allclose(found.points[0], (first + second) / np.linalg.norm(first + second), atol=1e-6)
    assert known.items[0].id == "call:1"
    assert known.items[0].emotion == MOODS[mood_of(0)]
    assert {moment.recording for moment in drawn.clusters[0].moments} <= {f"call:{number}" for number in drawn.ids}


def test_json_of_a_map_has_everything_but_points(collection: Collection) -> None:
    drawn = maps.load(collection)
    plain = json.loads(json.dumps(drawn.without_points()))
    assert plain["points"] == len(drawn.ids)
    assert plain["options"]["seed"] == 42
    assert "umap-learn" in plain["versions"]
    assert maps.Cluster.from_json(plain["clusters"][0]) == drawn.clusters[0]
    assert "x" not in plain


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"where": "queue = nowhere"}, AnalysisError, "no segment meets"),
        ({"where": "quue = sales"}, BadFilter, "queue"),
        ({"where": "recording = 1"}, AnalysisError, "too few"),
        ({"options": MapOptions(min_cluster_size=1)}, AnalysisError, "--min-cluster-size"),
        ({"options": MapOptions(min_cluster_size=100)}, AnalysisError, "too few"),
        ({"options": MapOptions(neighbors=1)}, AnalysisError, "--neighbors"),
        ({"options": MapOptions(min_dist=2.0)}, AnalysisError, "--min-dist"),
        ({"by": "mood"}, AnalysisError, "by segment or by call"),
        ({"name": ""}, AnalysisError, "name"),
    ],
)
def test_what_cannot_be_made_is_said(
    collection: Collection, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as raised:
        maps.make(collection, **{"name": "never", **arguments})  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert [each.name for each in maps.list_maps(collection)] == ["map"]


def test_missing_extra_is_named(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"e2vsearch\[map\]"):
        maps.make(collection)


@pytest.mark.parametrize(
    ("where", "pinned"),
    [
        ("date = today", "date = 2024-03-05"),
        ("date >= YESTERDAY and queue = 'today'", "date >= 2024-03-04 and queue = 'today'"),
        ("today_ish = 1", "today_ish = 1"),
        (None, None),
    ],
)
def test_today_becomes_its_date(where: str | None, pinned: str | None) -> None:
    assert material.pinned(where, datetime(2024, 3, 5, 12, tzinfo=UTC)) == pinned


# --- neighbours and options


def test_neighbours_are_exact_and_begin_with_the_point_itself() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, DIM)).astype(np.float32)
    vectors[30:50] = vectors[30]  # twenty twins: a point is not always found among its own nearest
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows, distances = projecting.neighbours(vectors, 5, lambda *_: None)
    np.testing.assert_array_equal(rows[:, 0], np.arange(60))
    cosines = vectors @ vectors.T
    expected = 1 - np.sort(cosines, axis=1)[:, ::-1][:, :6]
    np.testing.assert_allclose(distances, np.clip(expected, 0, 2), atol=1e-5)
    assert all(len(set(row)) == 6 for row in rows.tolist())


@pytest.mark.parametrize(("count", "size"), [(12, 3), (42, 10), (60, 15), (1247, 15), (20_000, 200)])
def test_least_cluster_size_follows_the_number_of_points(count: int, size: int) -> None:
    assert projecting.filled(MapOptions(), count).min_cluster_size == size


# --- placing


def test_new_segments_are_placed_and_strange_ones_are_not(own: Collection, tmp_path: Path) -> None:
    before = maps.load(own)
    rng = np.random.default_rng(9)
    strange = [vector(12, rng, 0.02) for _ in range(2)]
    own.catalog.store(recording(100, tmp_path, [vector(1, rng) for _ in range(4)], 1))
    own.catalog.store(recording(101, tmp_path, strange, 0))
    assert maps.load(own).unplaced == 6
    assert maps.place(own) == 6
    assert maps.place(own) == 0
    drawn = maps.load(own)
    assert drawn.unplaced == 0
    calm = next(cluster for cluster in drawn.clusters if cluster.emotions[0].name == "calm")
    new = drawn.placed
    assert drawn.cluster[new].tolist() == [calm.number] * 4 + [-1] * 2
    np.testing.assert_array_equal(drawn.x[~new], before.x)
    mapped = before.cluster == calm.number
    assert before.x[mapped].min() <= drawn.x[new][:4].min() <= drawn.x[new][:4].max() <= before.x[mapped].max()
    assert calm.size == mapped.sum() + 4
    assert [cluster.name for cluster in drawn.clusters] == [cluster.name for cluster in before.clusters]
    assert maps.list_maps(own)[0].placed == 6


def test_placing_agrees_with_having_been_there(collection: Collection) -> None:
    drawn = maps.load(collection)
    known = material.facts(collection, "segment", drawn.ids, None)
    vectors = material.vectors(collection, known).points
    left_out = np.arange(len(drawn.ids)) % 5 == 0
    kept = ~left_out
    base = placing.Base(
        vectors[kept], drawn.x[kept], drawn.y[kept], drawn.cluster[kept], drawn.strength[kept], reach=np.inf
    )
    put = placing.put(vectors[left_out], base, 15)
    certain = drawn.cluster[left_out] >= 0
    assert (put.cluster == drawn.cluster[left_out])[certain].mean() > 0.95
    assert (put.strength[put.cluster >= 0] > 0).all()
    apart = np.hypot(put.x - drawn.x[left_out], put.y - drawn.y[left_out])
    assert np.median(apart) < 0.15  # the map is 2 wide


def test_placing_asks_no_more_neighbours_than_there_are() -> None:
    one = np.eye(1, 4, dtype=np.float32)
    base = placing.Base(one, np.array([0.5]), np.array([-0.5]), np.array([0]), np.array([1.0]), 0.1)  # type: ignore[arg-type]
    put = placing.put(np.concatenate([one, -one]), base, 15)
    assert put.x.tolist() == [0.5, 0.5]
    assert put.cluster.tolist() == [0, -1]


def test_removed_calls_vanish(own: Collection) -> None:
    before = maps.load(own)
    gone = before.clusters[0].moments[0].recording
    own.remove(gone)
    after = maps.load(own)
    assert len(after.ids) == len(before.ids) - SEGMENTS
    assert after.clusters[0].size == before.clusters[0].size - SEGMENTS
    assert after.clusters[0].calls == before.clusters[0].calls - 1
    assert gone not in {moment.recording for moment in after.clusters[0].moments}
    own.remove(*(f"call:{number}" for number in np.unique(after.recordings)))
    empty = maps.load(own)
    assert (len(empty.ids), empty.clusters) == (0, ())


def test_nothing_left_to_place_by(own: Collection, tmp_path: Path) -> None:
    own.remove(where="duration_s > 0")
    own.catalog.store(recording(100, tmp_path, [vector(1, np.random.default_rng(1))], 1))
    with pytest.raises(AnalysisError, match="make it again"):
        maps.place(own)


@pytest.mark.parametrize("act", [maps.load, maps.place, maps.drop])
def test_unknown_map_is_named_with_those_there_are(collection: Collection, act: object) -> None:
    with pytest.raises(NotStored, match=r"no map 'mpa' \(known: map\)"):
        act(collection, "mpa")  # type: ignore[operator]


# --- chance and growth


def test_fisher_on_the_lady_tasting_tea() -> None:
    pytest.importorskip("scipy")
    p = chance.over_represented(np.array([4, 3]), np.array([4, 4]), np.array([4, 4]), 8)
    np.testing.assert_allclose(p, [1 / 70, 17 / 70])  # Fisher, 1935


def test_growth_is_a_fair_coin_when_exposures_are_equal() -> None:
    pytest.importorskip("scipy")
    assert chance.grew(5, 0, 100, 100) == pytest.approx(1 / 32)
    assert chance.grew(0, 5, 100, 100) == 1.0
    assert chance.grew(5, 5, 20, 80) == pytest.approx(
        1 - sum((0.8**10, 10 * 0.2 * 0.8**9, 45 * 0.04 * 0.8**8, 120 * 0.008 * 0.8**7, 210 * 0.0016 * 0.8**6))
    )
    low, high = chance.ratio_interval(10, 10, 50, 50)
    assert high is not None
    assert low < 1 < high
    assert low * high == pytest.approx(1.0)
    assert chance.ratio_interval(5, 0, 50, 50)[1] is None


def test_correction_for_many_tests() -> None:
    np.testing.assert_allclose(chance.corrected([0.01, 0.04, 0.03, 0.005]), [0.02, 0.04, 0.04, 0.02])
    assert chance.corrected([]).size == 0
    assert chance.corrected([0.9, 1.0]).max() == 1.0


def test_the_cluster_that_grew_is_found(collection: Collection) -> None:
    found = maps.anomalies(maps.load(collection), recent_days=7, baseline_days=28)
    assert [each.unusual for each in found] == [True, False, False]
    assert found[0].name.startswith("sad")
    assert found[0].recent_calls == 21
    assert found[0].baseline_calls == 12
    assert found[0].expected == pytest.approx(8.0, abs=0.5)
    assert found[0].ratio == pytest.approx(21 / found[0].expected)
    assert found[0].low > 1
    spans = maps.periods(maps.load(collection))
    assert spans.recent_calls == sum(call >= 36 for call in range(CALLS))
    assert spans.until - spans.recent_from == timedelta(days=7)


@pytest.mark.parametrize("arguments", [{"recent_days": 0.1}, {"baseline_days": 0.1}, {"recent_days": 365}])
def test_too_little_to_compare_is_said(collection: Collection, arguments: dict[str, float]) -> None:
    with pytest.raises(AnalysisError, match="too few calls to compare"):
        maps.anomalies(maps.load(collection), **arguments)  # type: ignore[arg-type]


# --- files


def test_parquet_holds_points_with_what_is_known(collection: Collection, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    drawn = maps.load(collection)
    maps.write(collection, drawn, tmp_path / "map.parquet", "http://127.0.0.1:8080/")
    table = parquet.read_table(tmp_path / "map.parquet")
    assert table.num_rows == len(drawn.ids)
    np.testing.assert_array_equal(table["x"].to_numpy(), drawn.x)
    first = table.slice(0, 1).to_pylist()[0]
    assert first["id"] == "seg:1"
    assert first["name"] == EVIL
    assert first["meta.queue"] == "other"
    assert first["score.angry"] == pytest.approx(0.8)
    assert first["audio"] == "http://127.0.0.1:8080/segments/seg:1/audio"
    assert first["recorded_at"] == START


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_picture_is_drawn_the_same_twice(collection: Collection, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    drawn = maps.load(collection)
    risky = replace(drawn.clusters[0], name="$\\frac{$ <b>")  # neither mathematics nor markup
    drawn = replace(drawn, clusters=(risky, *drawn.clusters[1:]))
    for name in ("one", "two"):
        maps.write(collection, drawn, tmp_path / f"{name}{suffix}")
    one = (tmp_path / f"one{suffix}").read_bytes()
    assert one == (tmp_path / f"two{suffix}").read_bytes()
    assert one.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
    assert suffix == ".png" or (b"queue=" in one and b"&lt;b&gt;" in one)


@pytest.fixture(scope="module")
def html(made: Path) -> str:
    pytest.importorskip("bokeh")
    with Collection.open(made) as collection:
        drawn = maps.load(collection)
        heard = drawn.clusters[0].moments[0]
        save(Path(collection.recording(heard.recording).uri), sine(4.0))
        known = material.facts(collection, "segment", drawn.ids, None)
        return page.render(drawn, known, sounds.clips(collection, drawn.clusters), "http://127.0.0.1:8080")


def test_page_holds_everything_and_runs_nothing_of_the_data(html: str, collection: Collection) -> None:
    data = json.loads(html.partition('id="data">')[2].partition("</script>")[0])
    assert EVIL in data["calls"]  # it is there
    assert EVIL not in html  # and not as markup
    assert "<script>alert" not in html
    assert data["clusters"][0]["moments"][0]["segment"] in data["clips"]
    assert next(iter(data["clips"].values())).startswith("data:audio/ogg;base64,T2dnU")  # "OggS"
    assert len(data["gone"]) == sum(len(cluster["moments"]) for cluster in data["clusters"]) - len(data["clips"])
    assert [mode["name"] for mode in data["modes"]] == ["cluster", "emotion", "queue"]
    assert all(len(mode["names"]) == len(mode["colours"]) for mode in data["modes"])
    item = json.loads(html.partition('id="item">')[2].partition("</script>")[0])
    assert item["target_id"] == "drawn"
    assert "media-src data: http://127.0.0.1:8080;" in html
    assert "cdn.bokeh" not in html.partition("<script>")[0]
    assert not {"@MEDIA@", "@TITLE@", "@DATA@", "@ITEM@", "@BOKEH@"} & set(html.split())


@pytest.mark.parametrize(
    "address", ["file:///etc", "127.0.0.1:8080", "http://a b", "http://x;script-src *", "http://h:99999"]
)
def test_page_takes_no_address_that_is_none(collection: Collection, address: str) -> None:
    pytest.importorskip("bokeh")
    drawn = maps.load(collection)
    known = material.facts(collection, "segment", drawn.ids, None)
    with pytest.raises(AnalysisError, match="--audio-url"):
        page.render(drawn, known, None, address)


def test_clips_stop_at_their_limit(collection: Collection, html: str) -> None:
    assert sounds.clips(collection, maps.load(collection).clusters, limit_bytes=10).sounds == {}


def test_file_of_another_kind_or_place_is_refused(collection: Collection, tmp_path: Path) -> None:
    drawn = maps.load(collection)
    with pytest.raises(AnalysisError, match="suffix"):
        maps.write(collection, drawn, tmp_path / "map.gif")
    pytest.importorskip("matplotlib")
    with pytest.raises(AnalysisError, match="cannot be written"):
        maps.write(collection, drawn, tmp_path / "nowhere" / "map.png")


def test_colours_tell_neighbours_apart(collection: Collection) -> None:
    one = maps.load(collection).clusters[0]
    row = tuple(replace(one, number=at, x=float(at), y=0.0) for at in range(30))
    colours = palette.colours(row)
    assert len({colours[at] for at in range(12)}) == 12
    assert all(colours[at] != colours[at + 1] for at in range(29))
    assert colours[-1] == palette.GREY


def test_names_do_not_lie_on_each_other() -> None:
    boxes = [(0.0, 0.0, 1.0, 0.2)] * 5 + [(1.9, 0.0, 0.6, 0.2)]
    centres = lettering.spread(boxes, (-1.0, -1.0, 1.0, 1.0))
    heights = sorted(y for _, y in centres[:5])
    assert all(second - first >= 0.2 - 1e-9 for first, second in pairwise(heights))
    assert centres[5][0] == pytest.approx(0.7)


# --- stored, on both databases


def points(count: int, placed: bool = False, first: int = 1) -> stored.Points:
    return stored.Points(
        np.arange(first, first + count),
        np.linspace(-1, 1, count, dtype=np.float32),
        np.zeros(count, np.float32),
        (np.arange(count) % 2 - 1).astype(np.int32),
        np.ones(count, np.float32),
        np.full(count, placed),
    )


def run_of(name: str, clusters: int = 1) -> stored.StoredMap:
    described = [{"number": number} for number in range(clusters)]
    return stored.StoredMap(name, "segment", None, {"reach": 0.5}, described, datetime(2024, 3, 1, tzinfo=UTC))


def test_maps_are_stored_replaced_extended_and_dropped(database_url: str, tmp_path: Path) -> None:
    catalog = Catalog.open(database_url, create=True)
    catalog.pin(SPACE, "saved")
    rng = np.random.default_rng(0)
    for call in range(4):
        catalog.store(recording(call, tmp_path, [vector(0, rng) for _ in range(3)], 0))
    np.testing.assert_array_equal(stored.items(catalog, "segment", None), np.arange(1, 13))
    np.testing.assert_array_equal(stored.items(catalog, "call", "recording in (1, 3)"), [1, 3])
    stored.save(catalog, run_of("a"), points(6))
    stored.save(catalog, run_of("b"), points(4))
    stored.save(catalog, run_of("a", clusters=2), points(8))
    run, found = stored.load(catalog, "a")  # type: ignore[misc]
    assert len(run.clusters) == 2
    np.testing.assert_array_equal(found.x, points(8).x)
    np.testing.assert_array_equal(found.recordings, [1, 1, 1, 2, 2, 2, 3, 3])
    assert found.recorded_at[0] == np.datetime64("2024-03-01T00:00:00")
    assert stored.add(catalog, "a", points(4, placed=True, first=7), [{"number": 5}]) == 2  # 7 and 8 are there
    assert stored.add(catalog, "no", points(4), []) == 0
    counted = {each.map.name: (each.points, each.placed, each.none) for each in stored.listing(catalog)}
    assert counted == {"a": (10, 2, 5), "b": (4, 0, 2)}
    assert stored.drop(catalog, "a")
    assert not stored.drop(catalog, "a")
    assert stored.load(catalog, "a") is None
    catalog.close()


def test_a_run_that_fails_leaves_the_old_one(database_url: str, tmp_path: Path) -> None:
    catalog = Catalog.open(database_url, create=True)
    catalog.pin(SPACE, "saved")
    catalog.store(recording(0, tmp_path, [vector(0, np.random.default_rng(0)) for _ in range(3)], 0))
    stored.save(catalog, run_of("a"), points(3))
    twice = replace(points(3), ids=np.array([1, 1, 2]))
    with pytest.raises(Exception, match=r"(?i)unique"):
        stored.save(catalog, run_of("a", clusters=9), twice)
    run, found = stored.load(catalog, "a")  # type: ignore[misc]
    assert (len(run.clusters), len(found.ids)) == (1, 3)
    catalog.close()


def test_results_are_plain_values(collection: Collection) -> None:
    json.dumps([asdict(each) for each in maps.load(collection).clusters])
    json.dumps([asdict(each) for each in maps.anomalies(maps.load(collection))])


def test_the_order_of_ingestion_makes_no_difference(tmp_path: Path) -> None:
    """Ids go by which file was read first; the map does not."""
    pytest.importorskip("umap", reason="the 'map' extra is not installed")
    folder = tmp_path / "calls"
    folder.mkdir()
    for number in range(12):
        save(folder / f"{number:02d}.wav", speech(3.0, seed=number))
    files = sorted(folder.iterdir())
    places: list[dict[str, tuple[float, float]]] = []
    for at, paths in enumerate((files, files[::-1])):
        with e2vsearch.open(tmp_path / str(at), encoder="fake") as collection:
            for path in paths:
                collection.ingest(path)
            drawn = collection.map(options=maps.MapOptions(min_cluster_size=3))
            names = [collection.recording(each.recording).name for _, each in collection.catalog.segments()]
            places.append(dict(zip(names, zip(drawn.x.tolist(), drawn.y.tolist(), strict=True), strict=True)))
    assert places[0] == places[1]
