"""What is said as a filter, the same on both databases, and in a query."""

# ruff: noqa: RUF001 - texts of many scripts, full-width letters among them

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from made_transcripts import put, srt
from sqlalchemy import select, text

import e2vsearch
from e2vsearch.catalog import text_search
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.catalog.schema import SegmentRow
from e2vsearch.catalog.text_search import words_of
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import BadFilter, TranscriptError
from e2vsearch.types import Space

# --- what is said


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Don't stop!", "don t stop"),
        ("ÄRGER naïve Straße ﬁne", "arger naive strasse fine"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ １２３", "full width 123"),
        ("我要退款refund吗？", "我 要 退 款 refund 吗"),
        ("返金してください", "返 金 し て く だ さ い"),
        ("마음에 안 들어요", "마음에 안 들어요"),
        ("ฉันโกรธ", "ฉั น โ ก ร ธ"),
        ("हिन्दी में", "हिन्दी में"),
        ("мой счёт а́", "мой счёт а"),
        ("foo_bar a.b@c.de 3,50 €", "foo bar a b c de 3 50"),
        ("½ … 😀", "1 2"),
        ("x" * 300, "x" * 255),
    ],
)
def test_words(said: str, words: str) -> None:
    assert " ".join(words_of(said)) == words


class Said:
    """A catalog of one recording, a text in each segment."""

    def __init__(self, url: str, said: list[str]) -> None:
        self.catalog = Catalog.open(url, create=True)
        self.catalog.pin(Space("saved", "made", 2), "saved")
        when = datetime(2024, 3, 1, tzinfo=UTC)
        one = np.ones(2, np.float32)
        made = tuple(NewSegment(at % 2, float(at), at + 1.0, one) for at in range(len(said)))
        row = NewRecording("/a.wav", "a", "f" * 64, 1, 1, when, 1.0, 2, 8000, "WAV", made)
        self.recording = self.catalog.store(row).id
        self.ids = self.catalog.segments_of([self.recording])[0].tolist()
        text_search.put(self.catalog, self.recording, dict(zip(self.ids, said, strict=True)))

    def find(self, query: str, where: str | None = None) -> list[int]:
        """Which of the texts, from 0, match."""
        return [self.ids.index(number) for number in text_search.search_text(self.catalog, query, where).tolist()]


@pytest.fixture
def said(database_url: str) -> Iterator[Said]:
    made = Said(
        database_url,
        [
            "I want a refund, now!",
            "My credit card was refunded twice. Don't say thanks.",
            "Thanks for your card",
            "我要退款，因为质量太差",
            "",
            "Card: credit only",
            'AND OR NOT NEAR("a" b) * refund:* <->',
        ],
    )
    yield made
    made.catalog.close()


SAID = [
    ("refund", [0, 6]),
    ("REFUND!", [0, 6]),
    ("refund*", [0, 1, 6]),
    ("card credit", [1, 5]),
    ('"credit card"', [1]),
    ("“credit card”", [1]),
    ("card -credit", [2]),
    ("-card", [0, 3, 6]),
    ('card -"credit card"', [2, 5]),
    ("refund* -thank*", [0, 6]),
    ("don't", [1]),
    ("退款", [3]),
    ("款退", []),
    ("质量 退款", [3]),
    ("退*", [3]),
    ("nothing", []),
    ("AND", [6]),
    ("near OR not", [6]),
    ("refund or", [6]),
    ('"" refund ?', [0, 6]),
]


def test_what_is_said(said: Said) -> None:
    assert [(query, said.find(query)) for query, _ in SAID] == SAID


def test_what_is_said_and_a_filter(said: Said) -> None:
    assert said.find("refund*", "channel = 0") == [0, 6]
    assert said.find("refund*", "channel = 1") == [1]
    with pytest.raises(BadFilter, match="nothing here is called"):
        said.find("refund", "nonsense = 1")


def test_a_query_without_words(said: Said) -> None:
    for query, says in (("", "no word"), ("?!", "no word"), ('"', "few"), ('a "b', "few")):
        with pytest.raises(BadFilter, match=says):
            said.find(query)


def test_both_databases_answer_alike(postgres_database: Callable[[], str], tmp_path: Path) -> None:
    """Random scraps of everything that means something to FTS5, to tsquery or to Unicode, asked of each other."""
    rng = random.Random(0)
    alphabet = "aaeE1x05 .-_'é你好हिÄß\u0301ж*\"\\&|!():<>^{}\x00\ud800"

    def scrap(most: int) -> str:
        return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, most)))

    scraps = [scrap(14) for _ in range(200)]
    both = [Said(url, scraps) for url in (f"sqlite:///{tmp_path / 'c.db'}", postgres_database())]
    answered = 0
    for _ in range(400):
        query = scrap(6)
        answers: list[list[int] | str] = []
        for each in both:
            try:
                answers.append(each.find(query))
            except BadFilter as error:
                answers.append(str(error))
        assert answers[0] == answers[1], query
        answered += isinstance(answers[0], list) and bool(answers[0])
    assert answered > 100
    for each in both:
        each.catalog.close()


def test_the_index_over_words_stays_whole(tmp_path: Path) -> None:
    said = Said(f"sqlite:///{tmp_path / 'c.db'}", ["one two", "two three", ""])
    text_search.put(said.catalog, said.recording, {said.ids[1]: "four", said.ids[2]: "five"})
    check = "INSERT INTO segment_words (segment_words, rank) VALUES ('integrity-check', 1)"

    def rows() -> list[tuple[int]]:
        with closing(sqlite3.connect(tmp_path / "c.db")) as connection:
            connection.execute(check)
            connection.execute("INSERT INTO segment_words (segment_words) VALUES ('rebuild')")
            connection.execute(check)
            return connection.execute(
                "SELECT rowid FROM segment_words WHERE segment_words MATCH 'two OR five'"
            ).fetchall()

    assert rows() == [(said.ids[2],)]
    said.catalog.remove([said.recording])  # by ON DELETE CASCADE, two tables away
    assert rows() == []
    assert text_search.transcribed(said.catalog) == 0
    said.catalog.close()


def test_a_text_that_is_too_long_is_refused(database_url: str) -> None:
    said = Said(database_url, ["one"])
    with pytest.raises(TranscriptError, match="at most 100,000 fit"):
        text_search.put(said.catalog, said.recording, {said.ids[0]: "a" * 100_001})
    assert said.find("one") == [0]
    longest = " ".join(f"{at:05d}" for at in range(16_000))
    assert text_search.put(said.catalog, said.recording, {said.ids[0]: longest})
    assert not text_search.put(said.catalog, said.recording, {said.ids[0]: longest})  # nothing to write
    assert said.find("15999") == [0]
    said.catalog.close()


def test_the_postgres_index_is_used(postgres_database: Callable[[], str]) -> None:
    """Written otherwise than in the migration, the expression would be computed for every row."""
    said = Said(postgres_database(), ["one", "two"])
    with said.catalog.reading() as reading:
        reading.execute(text("SET enable_seqscan = off"))
        condition = text_search.condition(said.catalog, "one")
        query = select(SegmentRow.id).where(condition)
        sql = query.compile(reading.engine, compile_kwargs={"literal_binds": True})
        plan = reading.exec_driver_sql(f"EXPLAIN {sql}").scalars().all()
    assert any("ix_segment_text_words" in line for line in plan)
    said.catalog.close()


# --- in a query


def test_a_query_by_what_is_said(database_url: str, calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "said"
    put(folder / "mono.srt", srt((0.2, 2.9, "Good morning"), (4.5, 7.4, "I want a refund")))
    put(folder / "pair.srt", srt((0.6, 3.9, "A refund?"), (5.1, 8.9, "Never")))
    with e2vsearch.open(database_url, encoder="fake", create=True) as collection:
        collection.ingest(calls, transcripts=folder)
        result = collection.query("seg:1", text="refund", by="segment", include_self=True)
        assert {hit.text for hit in result} == {"I want a refund", "A refund?"}
        assert (result.text, result.searched, result.total) == ("refund", 2, 4)
        mono = collection.query("seg:1", text="refund", where="name = mono", include_self=True)
        assert [(hit.name, hit.text) for hit in mono] == [("mono", "I want a refund")]
        assert len(collection.query("seg:1", text="nobody says that")) == 0
        assert collection.query("seg:1", by="segment").text is None
        with pytest.raises(BadFilter):
            collection.query("seg:1", text="")
