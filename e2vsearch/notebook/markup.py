"""Small pieces of HTML: escaped text, tables, an emotion with its colour beside its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from e2vsearch.palette import colour_of


def text(value: object) -> str:
    """Return a value as text of HTML; bytes of a name that are no UTF-8 become question marks."""
    return escape(str(value).encode("utf-8", "replace").decode("utf-8"))


def emotion(name: str | None, probability: float | None = None) -> str:
    """Return an emotion's name beside a square of its colour, and its probability where it has one."""
    if name is None:
        return ""
    square = f'<span style="color:{colour_of(name).light}" aria-hidden="true">■</span>'
    return f"{square} {text(name)}" + ("" if probability is None else f" {probability:.2f}")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of headings, which are text, and cells, which are HTML already."""
    head = "".join(f"<th>{text(each)}</th>" for each in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    top = f"<thead><tr>{head}</tr></thead>" if any(headings) else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"


def facts(named: Iterable[tuple[str, str]]) -> str:
    """Return names, which are text, and what there is to say of each, which is HTML already, a line each."""
    return table(("", ""), ((f"<b>{text(name)}</b>", value) for name, value in named))
