"""Full-text search: transcripts of segments, and ``--text`` as SQL.

A database gets words only as `words_of` makes them: folded, CJK characters apart, nothing but letters, digits and
spaces. Both databases then tokenize them alike (SQLite's ``ascii`` tokenizer and Postgres's ``simple`` configuration),
and no character of a query is an operator of FTS5's or tsquery's syntax.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from unicodedata import category, normalize

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, bindparam, delete, func, insert, literal_column, select, text

from e2vsearch.catalog.database import filtering
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import SegmentRow, SegmentTextRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import BadFilter, TranscriptError

UNBROKEN = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff"

UNBROKEN += "\U00020000-\U0003ffff"
"""Characters of scripts without spaces between words, as a range of a regular expression: Thai and Lao, Burmese,
Khmer, kana, Han. Each is a word of its own, and a query's word of several is looked for as a phrase."""

MAX_CHARACTERS = 100_000
"""Of one segment's text: three hours of fast speech. Postgres indexes at most 1 MB of words a row."""

_MAX_WORD = 255  # characters: Postgres leaves a word over 2 kB out of its index
_ALONE = re.compile(f"[{UNBROKEN}]")
_ASCII_WORD = re.compile("[a-z0-9]+")
_TERM = re.compile(r'(?P<no>-?)(?:"(?P<phrase>[^"]*)(?P<end>"?)|(?P<word>[^\s"]+))')
_QUOTES = str.maketrans("“”„«»「」", '"' * 7)


@dataclass(frozen=True, slots=True)
class _Term:
    """One term of a query: a word or a phrase."""

    words: tuple[str, ...]
    prefix: bool  # the last word is the beginning of one
    negated: bool


def words_of(transcript: str) -> tuple[str, ...]:
    """Return the words of a text as they are indexed.

    Compatibility forms, case and the diacritics of Latin letters do not matter ("Ärger" is "arger", "ﬁne" is "fine",
    full width is half width); a Cyrillic й stays what it is. Other characters than letters, digits and marks separate
    words.
    """
    folded = normalize("NFKC", normalize("NFKC", transcript).casefold())
    if folded.isascii():
        return tuple(word[:_MAX_WORD] for word in _ASCII_WORD.findall(folded))
    indexed: list[str] = []
    alone = False
    for character in folded:
        kind, base = _indexed(character)
        indexed.append(f" {base}" if kind == "alone" or (alone and kind == "letter") else base)
        alone = kind == "alone" or (alone and kind == "mark")
    return tuple(word[:_MAX_WORD] for word in "".join(indexed).split())


@cache
def _indexed(character: str) -> tuple[Literal["letter", "alone", "mark", "between"], str]:
    """Return the kind of a folded character, and its indexed form."""
    base = normalize("NFD", character)[0]
    if base.isascii():
        return ("letter", base) if base.isalnum() else ("between", " ")
    if "\u0300" <= character <= "\u036f":  # a diacritic that no letter was made with
        return "mark", ""
    if category(character)[0] == "M":  # of Indic and Thai letters: part of the word
        return "mark", character
    if not character.isalnum():
        return "between", " "
    return ("alone" if _ALONE.match(character) else "letter"), character


def put(catalog: Catalog, recording: int, transcripts: Mapping[int, str]) -> bool:
    """Replace the transcript of a recording, and return whether anything changed.

    Args:
        catalog: of the collection.
        recording: its number.
        transcripts: text by segment's number; the text of other segments is deleted.

    Raises:
        TranscriptError: a text that is too long for one segment.
    """
    texts = {number: plain(text_) for number, text_ in transcripts.items()}
    texts = {number: text_ for number, text_ in texts.items() if text_}
    for number, text_ in texts.items():
        if len(text_) > MAX_CHARACTERS:
            raise TranscriptError(
                f"seg:{number} has a text of {len(text_):,} characters, at most {MAX_CHARACTERS:,} fit - "
                "is the transcript of this recording?"
            )
    segments = select(SegmentRow.id).where(SegmentRow.recording_id == recording)
    of_recording = SegmentTextRow.segment_id.in_(segments)
    query = select(SegmentTextRow.segment_id, SegmentTextRow.text).where(of_recording)
    with catalog.reading() as connection:
        if {row.segment_id: row.text for row in connection.execute(query)} == texts:
            return False
    with catalog.writing() as connection:
        # another process may have replaced the recording: on Postgres its segments must not go while this writes
        stored = set(connection.execute(segments.with_for_update(read=True)).scalars())
        connection.execute(delete(SegmentTextRow).where(of_recording))
        rows = [
            {"segment_id": number, "text": text_, "words": " ".join(words_of(text_))}
            for number, text_ in texts.items()
            if number in stored
        ]
        if rows:
            connection.execute(insert(SegmentTextRow), rows)
    return True


def plain(transcript: str) -> str:
    """Join a text to one line, without control characters and surrogates, which no database stores."""
    return " ".join("".join(c for c in transcript if c.isspace() or category(c) not in ("Cc", "Cs")).split())


def transcribed(catalog: CatalogReader) -> int:
    """Return how many segments have a text."""
    with catalog.reading() as connection:
        return connection.execute(select(func.count()).select_from(SegmentTextRow)).scalar_one()


def search_text(catalog: CatalogReader, wanted: str, where: str | None = None) -> NDArray[np.int64]:
    """Return the numbers of the segments whose text matches, ascending; with `where`, of those that meet it as well.

    The array cannot be written to.

    Raises:
        BadFilter: as for `condition`; or `where` is invalid.
    """

    def select_ids() -> NDArray[np.int64]:
        query = select(SegmentRow.id).where(condition(catalog, wanted))
        return catalog.ids(query if where is None else query.where(catalog.condition(where)))

    with filtering():
        return catalog.filter_cache.of(("text", wanted, where), select_ids)


def condition(catalog: CatalogReader, wanted: str) -> ColumnElement[bool]:
    """Compile a text query to a SQL condition on `SegmentRow`.

    Args:
        catalog: of the collection.
        wanted: words that must all be there, in any order; ``"some words"`` for a phrase, ``refund*`` for all words
            that begin so, ``-word`` for a word that must not be there. Segments without a transcript never match.

    Raises:
        BadFilter: `wanted` has no word, or a quotation mark too few.
    """
    matching = _postgres if catalog.url.get_backend_name() == "postgresql" else _sqlite
    terms = _terms(wanted)
    required = [term for term in terms if not term.negated]
    first = matching(required) if required else select(SegmentTextRow.segment_id)
    matches: ColumnElement[bool] = SegmentRow.id.in_(first)
    for term in terms:
        if term.negated:
            matches &= SegmentRow.id.not_in(matching([term]))
    return matches


def required_words(wanted: str) -> list[str]:
    """Return the whole words that a text query asks for, as they are indexed; the beginnings of words are left out.

    Raises:
        BadFilter: as for `condition`.
    """
    whole = (term.words[:-1] if term.prefix else term.words for term in _terms(wanted) if not term.negated)
    return list(dict.fromkeys(word for words in whole for word in words))


def _terms(wanted: str) -> list[_Term]:
    terms = []
    for found in _TERM.finditer(wanted.translate(_QUOTES)):
        if found["word"] is None and not found["end"]:
            raise BadFilter(f"--text {wanted!r} has a quotation mark too few - write '\"credit card\" refund'")
        named = found["phrase"] if found["word"] is None else found["word"]
        if words := words_of(named):
            terms.append(_Term(words, found["word"] is not None and named.endswith("*"), bool(found["no"])))
    if not terms:
        raise BadFilter(f"--text {wanted!r} has no word in it - write e.g. 'refund', '\"credit card\"' or 'refund*'")
    return terms


def _sqlite(terms: list[_Term]) -> Any:
    match = " AND ".join(f'"{" ".join(term.words)}"{" *" * term.prefix}' for term in terms)
    # a unique parameter: a condition has one for the required words and one for each negated term
    query = text("SELECT rowid FROM segment_words WHERE segment_words MATCH :words")
    return query.bindparams(bindparam("words", match, unique=True)).columns(SegmentTextRow.segment_id)


def _postgres(terms: list[_Term]) -> Any:
    match = " & ".join(
        "(" + " <-> ".join(f"'{word}'" for word in term.words) + ":*" * term.prefix + ")" for term in terms
    )
    simple: ColumnElement[str] = literal_column("'simple'")  # a constant, or the index over it is not used
    vector = func.to_tsvector(simple, SegmentTextRow.words)
    return select(SegmentTextRow.segment_id).where(vector.op("@@")(func.to_tsquery(simple, match)))
