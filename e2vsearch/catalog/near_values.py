"""Says why a filter leaves nothing: which value of it no recording has, and what comes near it.

A name that does not exist is refused when a filter is compiled. A value may be of what is yet to come, so it is looked
up only once nothing was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from lark import Token, Tree
from sqlalchemy import Select, exists, select

from e2vsearch.catalog import labels, text_search
from e2vsearch.catalog.filter_language import name_of, parser, value_of
from e2vsearch.catalog.filters import CLUSTER, FIELDS, LABEL_FIELDS, RECORDING_FIELDS
from e2vsearch.catalog.schema import MetadataRow, RecordingRow, SegmentRow, SegmentTextRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.course import Course
from e2vsearch.emotions import NAMELESS
from e2vsearch.policy import ROLES

_READ = 20_000  # values, or transcripts, among which near ones are sought
_LISTED = 8  # values that are named where none comes near


def why_nothing(catalog: Catalog, where: str | None, text: str | None = None) -> str | None:
    """Return why nothing meets a valid filter and words; None where every value exists by itself.

    Args:
        catalog: of the collection.
        where: the filter; metadata that it names is metadata that the asker may see.
        text: the words.

    Example:
        ``no queue is called "biling", did you mean "billing"?``
    """
    reasons = [] if text is None else list(_unsaid(catalog, text))
    if where is not None:
        reasons += dict.fromkeys(
            reason for name, value in _equalities(parser().parse(where)) if (reason := _unknown(catalog, name, value))
        )
    return "; ".join(reasons) or None


def _equalities(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that are compared for being equal, but for what is negated."""
    if not isinstance(tree, Tree) or tree.data in ("negation", "none_of", "unlike"):
        return
    if tree.data in ("comparison", "one_of"):
        name, *rest = tree.children
        if tree.data == "comparison" and str(rest.pop(0)) not in ("=", "=="):
            return
        yield from ((name_of(_token(name)), value_of(_token(each))) for each in rest)
        return
    for child in tree.children:
        yield from _equalities(child)


def _token(tree: Any) -> Token:
    (token,) = tree.children
    return token  # type: ignore[no-any-return]


def _unknown(catalog: Catalog, name: str, value: Any) -> str | None:
    """Return that no segment has a value, with what comes near; None where one has it, or where nothing can be said."""
    if not isinstance(value, str):
        return None
    key = name.removeprefix("meta.")
    keys = catalog.metadata_keys()
    if name == "emotion":
        space = catalog.space
        return _near(name, value, () if space is None else (*space.labels, *NAMELESS))
    if name == "role":
        return _near(name, value, ROLES)
    if name == "course":
        return _near(name, value, get_args(Course))
    if name == "label":
        return _near(name, value, labels.names(catalog))
    if name in ("name", "format", "uri"):
        column = RECORDING_FIELDS[name][0]
        known = select(column).distinct().order_by(column).limit(_READ)
        found = _near("recording" if name == "name" else name, value, _column(catalog, known))
        return found if not _there(catalog, select(RecordingRow.id).where(column == value)) else None
    if name.startswith(CLUSTER) and name not in keys:
        return None
    if name in {*FIELDS, *RECORDING_FIELDS, *LABEL_FIELDS} or key not in keys:
        return None
    of_key = select(MetadataRow.text).where(MetadataRow.key == key)
    if _there(catalog, of_key.where(MetadataRow.text == value)):
        return None
    return _near(key, value, _column(catalog, of_key.distinct().order_by(MetadataRow.text).limit(_READ)))


def _unsaid(catalog: Catalog, text: str) -> Iterator[str]:
    """Yield the words that no transcript has."""
    if not _there(catalog, select(SegmentTextRow.segment_id)):
        yield "no recording has a transcript: ingest with --transcripts"
        return
    vocabulary: set[str] | None = None
    for word in text_search.required_words(text):
        if _there(catalog, select(SegmentRow.id).where(text_search.condition(catalog, word))):
            continue
        if vocabulary is None:
            rows = _column(catalog, select(SegmentTextRow.words).limit(_READ))
            vocabulary = {each for row in rows for each in row.split()}
        near = get_close_matches(word, vocabulary, n=1)
        yield f'no recording says "{word}"' + (f', did you mean "{near[0]}"?' if near else "")


def _near(name: str, value: str, known: Sequence[str]) -> str | None:
    if value in known:
        return None
    folded: dict[str, str] = {}
    for each in known:
        folded.setdefault(each.casefold(), each)
    near = get_close_matches(value.casefold(), folded, n=1)
    said = f'no {name} is called "{value}"'
    if near:
        return f'{said}, did you mean "{folded[near[0]]}"?'
    listed = ", ".join(known[:_LISTED]) + (" …" if len(known) > _LISTED else "")
    return f"{said} (there is {listed})" if known and name != "recording" else said


def _there(catalog: Catalog, query: Select[Any]) -> bool:
    with catalog.reading() as connection:
        return bool(connection.execute(select(exists(query))).scalar())


def _column(catalog: Catalog, query: Select[Any]) -> list[str]:
    with catalog.reading() as connection:
        return list(connection.execute(query).scalars())
