"""The figures that documents show: rows of `benchmarks/results` in the words of `page.toml`, each with its limit."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from _results import Result, UnknownResult

WORDS = Path(__file__).resolve().parent / "page.toml"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table.

    Attributes:
        result: file in `benchmarks/results`.
        rows: names of its rows.
        what: words, in Markdown.
        figure: format of the rows' values ``{0}``, ``{1}``, … and ratios ``{r0}``, …
        limit: what the figure does not say.
    """

    result: str
    rows: tuple[str, ...]
    what: str
    figure: str
    limit: str

    def text(self, results: Mapping[str, Result]) -> str:
        """Return the figure itself, in Markdown.

        Raises:
            UnknownResult: a file or row is not there.
        """
        found = [self.of(results).row(name) for name in self.rows]
        ratios = {f"r{at}": row.ratio for at, row in enumerate(found)}
        return re.sub(r"(?<=\d)%", " %", self.figure.format(*(row.value for row in found), **ratios))

    def of(self, results: Mapping[str, Result]) -> Result:
        """Return the run that it is from.

        Raises:
            UnknownResult: its file is not there.
        """
        if self.result not in results:
            raise UnknownResult(f"there is no {self.result}.json in benchmarks/results: record it, or name another")
        return results[self.result]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what it is about, its figures, and the name of a plot with its caption."""

    title: str
    about: str
    plot: str
    caption: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """All of `page.toml`."""

    sections: tuple[Section, ...]
    readme: Mapping[str, tuple[Figure, ...]]  # by language, "en" and "zh"


def words(path: Path = WORDS) -> Words:
    """Return what is shown, and in which words."""
    said = tomllib.loads(path.read_text(encoding="utf-8"))
    sections = tuple(
        Section(
            each["title"],
            each["about"],
            each["plot"],
            each["caption"],
            tuple(
                Figure(of["result"], tuple(of["rows"]), of["what"], of["figure"], of["limit"]) for of in each["figure"]
            ),
        )
        for each in said["section"]
    )
    readme = {
        language: tuple(
            Figure(
                of["result"], tuple(of["rows"]), of[f"what{suffix}"], of[f"figure{suffix}"], of[f"limit{suffix}"]
            )
            for of in said["readme"]
        )
        for language, suffix in (("en", ""), ("zh", "_zh"))
    }  # fmt: skip
    return Words(sections, readme)
