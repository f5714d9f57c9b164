"""The catalog on SQLite and on a real Postgres: idempotence, replacement, the change feed, filters."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import numpy as np
import pytest
from sqlalchemy import select, text

from e2vsearch.catalog.changes import ChangeDetector
from e2vsearch.catalog.dynamics import courses_of
from e2vsearch.catalog.filter_cache import FilterCache
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.catalog.schema import ChangeRow, RecordingRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import BadFilter, SpaceMismatch
from e2vsearch.types import Space

FILTERS = [
    ('agent = "Kim"', "a"),
    ("agent = Kim or agent = Lee", "ab"),
    ("agent in (Kim, 'Lee')", "ab"),
    ("agent not in (Kim)", "bc"),
    ("not agent = Kim", "bc"),
    ("agent like 'k%'", "a"),
    ("agent not like 'k%'", "bc"),
    ("agent is null", "c"),
    ("agent is not null and price >= 3", "a"),
    ("price < 10", "ab"),
    ("price = '3.5'", "a"),
    ("price between 1 and 3", "b"),
    ("meta.price > 3.4", "a"),
    ("name = a", "a"),
    ("name like '%B%'", "b"),
    ("recording = 2", "b"),
    ("recording = call:2", "b"),
    ("date = 2024-03-02", "b"),
    ("date > 2024-03-01", "bc"),
    ("date >= 2024-03-01 and date <= 2024-03-02", "ab"),
    ("date < 2024-03-02T11:00", "a"),
    ("date = today", ""),
    ("added = today", "abc"),
    ("channel = 1 and emotion = angry", "abc"),
    ("channel = 0 and emotion = angry", ""),
    ("emotion_score > 0.8 and start_s < 1", "abc"),
    ("arousal > 0.79 and valence < 0.25", "abc"),  # angry is the one class of these with an entry in the table
    ("arousal between 0.8 and 1", ""),
    ("level_db < -20 and emotion = angry", "abc"),
    ("level_db > -20", ""),
    ("emotion = unsure", ""),
    ('emotion in (unsure, "too short")', ""),
    ("duration_s != 4", ""),
    ("`the queue` = 'a b'", "c"),
    ("(agent = Kim or agent = Lee) and not (price < 3)", "a"),
]
BAD_FILTERS = [
    ("", "its end"),
    ("agent =", "its end"),
    ("agent = 'Kim", "'Kim"),
    ("agnet = Kim", "did you mean agent"),
    ("nothing = 1", "known: "),
    ("channel = left", "number"),
    ("channel = 2024-03-01", "number"),
    ("date = soon", "date"),
    ("date = 2024-13-01", "2024-13-01"),
    ("agent like 3", "quoted"),
    ("agent = Kim; drop table segment", "; drop"),
]

SPACE = Space("fake", "r1", 4, ("calm", "angry"))


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    catalog = Catalog.open(database_url, create=True)
    catalog.pin(SPACE, "fake")
    yield catalog
    catalog.close()


def a_recording(name: str = "a", *, segments: int = 2, content: str | None = None, **metadata: str) -> NewRecording:
    rng = np.random.default_rng(abs(hash(name)) % 2**32)
    made = tuple(
        NewSegment(
            number % 2,
            number * 5.0,
            number * 5.0 + 4.0,
            rng.standard_normal(4).astype(np.float32),
            np.array([0.3, 0.7] if number % 2 else [0.9, 0.1], np.float32),
            -20.0 - number,
        )
        for number in range(segments)
    )
    return NewRecording(
        uri=f"/calls/{name}.wav",
        name=name,
        content_sha256=content or sha256(name.encode()).hexdigest(),
        size_bytes=10,
        mtime_ns=20,
        recorded_at=datetime(2024, 3, 1, 12, tzinfo=UTC),
        duration_s=60.0,
        channels=2,
        sampling_rate_hz=8000,
        format="WAV PCM_16",
        segments=made,
        metadata=metadata,
    )


def test_what_is_stored_comes_back(catalog: Catalog) -> None:
    recording = a_recording("a", agent="Kim", price="3.5")
    stored = catalog.store(recording)
    assert stored.outcome == "stored"
    [(number, back)] = catalog.recordings()
    assert number == stored.id
    assert back.id == f"call:{stored.id}"
    assert back.metadata == {"agent": "Kim", "price": "3.5"}
    assert back.recorded_at == recording.recorded_at
    segments = dict(catalog.segments())
    assert [(s.channel, s.start_s, s.end_s, s.emotion) for s in segments.values()] == [
        (0, 0.0, 4.0, "calm"),
        (1, 5.0, 9.0, "angry"),
    ]
    assert segments[max(segments)].scores == pytest.approx({"calm": 0.3, "angry": 0.7})
    assert [segment.level_db for segment in segments.values()] == [-20.0, -21.0]
    batch = catalog.feed().fetch(np.array(sorted(segments)))
    assert np.array_equal(batch.vectors, np.stack([s.vector for s in recording.segments]))
    assert batch.recordings.tolist() == [stored.id, stored.id]


def test_same_content_is_stored_once(catalog: Catalog) -> None:
    first = catalog.store(a_recording("a"))
    again = catalog.store(a_recording("a"))
    copy = catalog.store(a_recording("b", content=a_recording("a").content_sha256))
    assert again == copy
    assert (again.id, again.outcome) == (first.id, "already")
    assert catalog.counts().recordings == 1


def test_other_content_at_the_same_place_replaces(catalog: Catalog) -> None:
    first = catalog.store(a_recording("a", agent="Kim"))
    second = catalog.store(a_recording("a", content="f" * 64, segments=3))
    assert second.outcome == "replaced"
    assert second.id != first.id
    assert catalog.counts().segments == 3
    [(_, recording)] = catalog.recordings()
    assert recording.metadata == {}


def test_ids_are_never_used_again(catalog: Catalog) -> None:
    before = catalog.store(a_recording("a"))
    gone = set(catalog.select("channel >= 0").tolist())
    assert catalog.remove([before.id]) == 1
    after = catalog.store(a_recording("b"))
    assert after.id > before.id
    assert min(catalog.select("channel >= 0")) > max(gone)
    assert catalog.remove([999]) == 0


def test_a_snapshot_counts_what_it_reads_whatever_comes_meanwhile(catalog: Catalog) -> None:
    catalog.store(a_recording("a"))
    with catalog.feed().snapshot() as snapshot:
        catalog.store(a_recording("b"))
        assert snapshot.count == 2
        assert sum(len(batch.ids) for batch in snapshot.batches()) == 2


def test_the_feed_tells_what_came_and_went(catalog: Catalog) -> None:
    first = catalog.store(a_recording("a"))
    feed = catalog.feed()
    for _ in range(1000):  # on Postgres no watermark passes a transaction of another test's database
        with feed.snapshot() as snapshot:
            if not feed.changes_since(snapshot.watermark).added.size:
                break
    with feed.snapshot() as snapshot:
        batches = list(snapshot.batches())
        assert snapshot.count == 2
    assert sum(len(batch.ids) for batch in batches) == 2
    token = feed.changes_token(snapshot.watermark)
    assert feed.changes_since(snapshot.watermark).added.size == 0
    second = catalog.store(a_recording("b", segments=3))
    assert feed.changes_token(snapshot.watermark) != token
    changes = feed.changes_since(snapshot.watermark)
    assert changes.added_recordings.tolist() == [second.id] * 3
    catalog.remove([first.id])
    changes = feed.changes_since(snapshot.watermark)
    assert changes.removed.tolist() == batches[0].ids.tolist()
    ids = np.array(sorted(changes.added), np.int64)
    assert feed.fingerprint() == (3, ids[0], ids[-1], np.bitwise_xor.reduce(ids))
    assert feed.fetch(np.concatenate([ids, batches[0].ids])).ids.tolist() == ids.tolist()


@pytest.mark.slow
def test_the_feed_of_concurrent_writers_loses_nothing(database_url: str) -> None:
    catalog = Catalog.open(database_url, create=True)
    catalog.pin(SPACE, "fake")
    feed = catalog.feed()
    seen: set[int] = set()
    errors: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            for number in range(12):
                catalog.store(a_recording(f"{writer}-{number}"))
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    watermark = 0
    while True:
        running = any(thread.is_alive() for thread in writers)
        with feed.snapshot() as snapshot:  # as an index build does: what is at or below the watermark is in it
            in_snapshot = {number for batch in snapshot.batches() for number in batch.ids.tolist()}
        missed = set(feed.changes_since(watermark).added.tolist())
        seen |= missed
        # nothing may lie below the new watermark without being in the snapshot
        assert set(feed.changes_since(watermark).added) <= in_snapshot | set(
            feed.changes_since(snapshot.watermark).added
        )
        watermark = snapshot.watermark
        if not running:
            break
    assert not errors
    assert len(seen) == catalog.counts().segments == 4 * 12 * 2
    catalog.close()


def test_two_writers_store_the_same_files_once(database_url: str) -> None:
    outcomes: list[str] = []
    ids: set[str] = set()
    errors: list[BaseException] = []

    def write() -> None:
        try:
            catalog = Catalog.open(database_url, create=True)
            catalog.pin(SPACE, "fake")
            outcomes.extend(catalog.store(a_recording(str(number))).outcome for number in range(15))
            ids.add(catalog.collection_id)
            catalog.close()
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert errors == []
    assert sorted(outcomes) == ["already"] * 30 + ["stored"] * 15
    assert len(ids) == 1
    catalog = Catalog.open(database_url)
    assert (catalog.counts().recordings, catalog.counts().segments) == (15, 30)
    catalog.close()


def test_failures_are_counted_and_forgiven(catalog: Catalog) -> None:
    catalog.fail("/calls/a.wav", "truncated", "ends early")
    catalog.fail("/calls/a.wav", "empty", "no samples")
    catalog.fail("/calls/b.wav", "empty", "no samples")
    assert [(f.uri, f.reason, f.attempts) for f in catalog.failures()] == [
        ("/calls/a.wav", "empty", 2),
        ("/calls/b.wav", "empty", 1),
    ]
    catalog.store(a_recording("a"))
    catalog.clear_failures(["/calls/b.wav"])
    assert list(catalog.failures()) == []


def test_a_collection_is_pinned_to_its_space(catalog: Catalog) -> None:
    catalog.pin(SPACE, "fake")
    with pytest.raises(SpaceMismatch, match=r"--encoder fake.*--index"):
        catalog.pin(Space("light", "r2", 4, ("calm", "angry")), "light")
    with pytest.raises(SpaceMismatch, match=r"the version of e2vsearch whose fake made them, or .*--index"):
        catalog.pin(Space("fake", "r2", 4, ("calm", "angry")), "fake")
    wrong = a_recording("a")
    wrong = NewRecording(
        **{name: getattr(wrong, name) for name in wrong.__slots__ if name != "segments"},
        segments=(NewSegment(0, 0.0, 1.0, np.ones(5, np.float32)),),
    )
    with pytest.raises(SpaceMismatch, match=r"\(5,\)"):
        catalog.store(wrong)
    assert catalog.counts().recordings == 0


def test_filters(catalog: Catalog) -> None:
    recordings = {
        "a": a_recording("a", agent="Kim", price="3.5"),
        "b": a_recording("b", agent="Lee", price="2"),
        "c": a_recording("c", **{"the queue": "a b"}),  # type: ignore[arg-type]
    }
    numbers = {}
    for day, (name, recording) in enumerate(recordings.items(), start=1):
        numbers[name] = catalog.store(recording).id
        catalog.annotate(numbers[name], {}, datetime(2024, 3, day, 12, tzinfo=UTC))
    for where, names in FILTERS:
        assert catalog.recordings_where(where) == [numbers[name] for name in names], where


def test_bad_filters_say_what_is_wrong(catalog: Catalog) -> None:
    catalog.store(a_recording("a", agent="Kim"))
    for where, says in BAD_FILTERS:
        with pytest.raises(BadFilter) as caught:
            catalog.select(where)
        assert says in str(caught.value), where
        assert "\n" not in str(caught.value)


def test_quotes_in_values_stay_values(catalog: Catalog) -> None:
    catalog.store(a_recording("a", queue="O'Brien"))
    assert catalog.select('queue = "O\'Brien"').size == 2
    assert catalog.select("queue = \"x' or '1' = '1\"").size == 0
    assert catalog.select("queue = 'O''Brien'").size == 2  # doubled, as in SQL
    catalog.store(a_recording("b", queue="both \" and '"))
    assert catalog.select('queue = "both "" and \'"').size == 2
    assert catalog.select("queue = 'both \" and '''").size == 2
    assert catalog.select('queue = ""').size == 0


def test_what_a_filter_leaves_is_looked_up_again_only_when_something_was_committed(
    catalog: Catalog, database_url: str
) -> None:
    catalog.store(a_recording("a", queue="kim"))
    catalog.store(a_recording("b", queue="lee"))
    found = catalog.select("queue = kim")
    assert found.size == 2
    assert not found.flags.writeable
    if database_url.startswith("sqlite"):  # a Postgres server counts the transactions of all its databases as one
        assert catalog.select("queue = kim") is found
    assert catalog.select("queue = lee") is not found
    other = Catalog.open(database_url)  # as another process would
    other.store(a_recording("c", queue="kim"))
    assert catalog.select("queue = kim").size == 4
    other.annotate(other.stored_files()["/calls/b.wav"].id, {"queue": "kim"})
    assert catalog.select("queue = kim").size == 6
    other.close()
    catalog.store(a_recording("d", queue="kim"))  # by itself, too
    assert catalog.select("queue = kim").size == 8


def test_metadata_of_a_stored_recording_can_change(catalog: Catalog) -> None:
    number = catalog.store(a_recording("a", agent="Kim", queue="loans")).id
    catalog.annotate(number, {"agent": "Lee", "team": "x" * 5000})
    [(_, recording)] = catalog.recordings()
    assert recording.metadata == {"agent": "Lee", "queue": "loans", "team": "x" * 5000}


def test_a_moved_file_keeps_its_recording(catalog: Catalog) -> None:
    number = catalog.store(a_recording("a")).id
    catalog.relocate(number, "/calls/new/a.wav", "a", 99)
    known = catalog.stored_files()
    assert list(known) == ["/calls/new/a.wav"]
    assert (known["/calls/new/a.wav"].id, known["/calls/new/a.wav"].mtime_ns) == (number, 99)
    assert catalog.file_of_content(a_recording("a").content_sha256) == known["/calls/new/a.wav"]


def test_a_removed_recording_leaves_nothing(catalog: Catalog) -> None:
    catalog.remove([catalog.store(a_recording("a", agent="Kim")).id])
    with catalog._engine.connect() as connection:
        for table in ("recording", "segment", "vector", "recording_metadata"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0
        assert connection.execute(select(ChangeRow.op)).scalars().all() == ["+", "+", "-", "-"]


def test_recordings_of_segments_are_read_again_once_segments_come_or_go(catalog: Catalog, database_url: str) -> None:
    number = catalog.store(a_recording("a")).id
    first = catalog.feed().recordings_of_segments()
    assert set(first[1].tolist()) == {number}
    assert first[0].tolist() == catalog.segments_of([number])[0].tolist()
    catalog.annotate(number, {"agent": "Kim"})  # a commit, but no change of segments
    assert all(a is b for a, b in zip(catalog.feed().recordings_of_segments(), first, strict=True))
    with closing(Catalog.open(database_url)) as other:
        second = other.store(a_recording("b")).id
        ids, recordings = catalog.feed().recordings_of_segments()
        assert set(recordings.tolist()) == {number, second}
        assert ids.tolist() == [*first[0].tolist(), *other.segments_of([second])[0].tolist()]
        other.remove([number])
    assert set(catalog.feed().recordings_of_segments()[1].tolist()) == {second}
    assert not ids.flags.writeable


def test_counts_of_changes_after_several_watermarks_stay_apart(catalog: Catalog) -> None:
    """Postgres holds the watermark below any transaction that runs, one of another database on the server too."""
    catalog.store(a_recording("a"))
    feed = catalog.feed()
    with feed.snapshot() as snapshot:
        later = snapshot.watermark
    for _ in range(2):
        for _ in range(2):
            tokens = feed.changes_token(-1), feed.changes_token(later)
            assert tokens == tuple(len(feed.changes_since(watermark).added) for watermark in (-1, later))
        catalog.store(a_recording("b"))


class NoCommits(ChangeDetector):
    """A detector in whose database nothing is committed."""

    def __init__(self) -> None:
        pass

    def state(self) -> int:
        return 0


def test_a_result_that_is_larger_than_the_cache_is_given_all_the_same() -> None:
    cache = FilterCache(NoCommits(), max_ids=150)
    small, large = np.arange(20), np.arange(200)
    assert cache.of("large", lambda: large) is large
    assert cache.of("small", lambda: small) is small
    assert cache.of("small", lambda: large) is small
    assert cache.of("other", lambda: large[:20]) is not small
    assert cache.of("small", lambda: large) is large  # the least recently used one was dropped


def test_ids_of_segments_ascend_and_are_never_used_again(catalog: Catalog) -> None:
    first = catalog.store(a_recording("first", segments=3)).id
    second = catalog.store(a_recording("second", segments=2)).id
    before = catalog.segments_of([first, second])[0].tolist()
    assert catalog.remove([second]) == 1
    third = catalog.store(a_recording("third", segments=2)).id
    numbers = catalog.segments_of([third])[0].tolist()
    assert len(numbers) == 2
    assert min(numbers) > max(before)
    starts = [segment.start_s for _, segment in catalog.segments(numbers)]
    assert starts == sorted(starts)  # in the order in which they were given


@pytest.mark.parametrize("valence", [(0.9, 0.9), (0.9, 0.1)])
def test_a_course_is_stored_as_it_is_found_again(catalog: Catalog, valence: tuple[float, float]) -> None:
    made = a_recording("told", segments=40)
    segments = tuple(
        replace(each, scores=np.array([valence[at // 20], 1 - valence[at // 20]], np.float32))
        for at, each in enumerate(made.segments)
    )
    number = catalog.store(replace(made, segments=segments[::-1])).id
    with catalog.reading() as connection:
        stored = connection.execute(select(RecordingRow.course).where(RecordingRow.id == number)).scalar_one()
        assert stored == courses_of(connection, [number])[number]
    assert stored is not None
