"""docs/benchmarks.md, its plots and the README's table of figures, written from the JSON in benchmarks/results.

    python benchmarks/_page.py                          # docs/benchmarks.md and docs/images/benchmarks-*.svg
    python benchmarks/_page.py --check                  # exit code 1, naming what is not current
    python benchmarks/_page.py --figures                # print the README's table; --language zh
    python benchmarks/_page.py --readme README.md       # write it between the markers of that file
    python benchmarks/startup.py --quick --json rows.json
    python benchmarks/_page.py --record rows.json --as startup --command "python benchmarks/startup.py --quick"

Which rows are shown, and in which words, is in `benchmarks/page.toml`. Plots need Matplotlib (extra `map`).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import _plots
import _results
from _figures import Figure, Section, words
from _results import Result, UnknownResult

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
BEGIN, END = "<!-- figures: python benchmarks/_page.py --readme -->", "<!-- /figures -->"
HEADS = {"en": ("what", "figure", "limit", "from"), "zh": ("内容", "数值", "限制", "来源")}

_OPENING = """# Benchmarks

Every figure here is a row of a file in `benchmarks/results`, which the command beside it wrote; this page is written
from them by `python benchmarks/_page.py`. A figure stands with its limit: what it does not say.

Prefer ratios. Times of one machine say little about another, and those of a busy one little about itself. Each run has
its machine and date [below](#runs). *Quick* runs are smaller and take a minute or so. What is *carried over* took
longer, was published with its machine on the date that is named, and is not measured anew for this page.
"""


def page(results: Mapping[str, Result]) -> str:
    """Return docs/benchmarks.md.

    Raises:
        UnknownResult: a figure's file or row is not there.
    """
    said = words()
    used = {figure.result for section in said.sections for figure in section.figures}
    parts = [_OPENING, *(_section(section, results) for section in said.sections), _runs(used, results)]
    return "\n".join(parts)


def figures(results: Mapping[str, Result], language: str = "en") -> str:
    """Return the README's table.

    Raises:
        UnknownResult: a figure's file or row is not there.
    """
    return "\n".join(_table(words().readme[language], results, HEADS[language], commands=True)) + "\n"


def placed(text: str, results: Mapping[str, Result], language: str) -> str | None:
    """Return a document with the table between its markers; None where it has none."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        return None
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{figures(results, language)}\n{END}{after}"


def plot_file(plot: str) -> Path:
    """Return where a plot lies."""
    return DOCS / "images" / f"benchmarks-{plot}.svg"


def outdated(results: Mapping[str, Result]) -> list[str]:
    """Return what is not as the results have it, a line each."""
    found = [] if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page(results) else [f"docs/{PAGE.name}"]
    for plot in _plots.PLOTS:
        file = plot_file(plot)
        if not file.is_file() or _plots.fingerprint(plot, results) not in file.read_text(encoding="utf-8"):
            found.append(f"docs/images/{file.name}")
    return found


def _section(section: Section, results: Mapping[str, Result]) -> str:
    parts = [f"## {section.title}", ""]
    if section.about:
        parts += [section.about, ""]
    if section.plot:
        parts += [f"![{section.caption}](images/{plot_file(section.plot).name})", "", f"*{section.caption}*", ""]
    return "\n".join([*parts, *_table(section.figures, results, HEADS["en"], commands=False), ""])


def _table(
    shown: Sequence[Figure], results: Mapping[str, Result], heads: Sequence[str], *, commands: bool
) -> Iterator[str]:
    """Yield the lines of a table; with `commands`, what gives each figure, else the name of its run."""
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for each in shown:
        run = each.of(results)
        source = f"`{run.command}`" if commands else f"[{run.name}](#runs)"
        yield f"| {each.what} | {each.text(results)} | {each.limit} | {source} |"


def _runs(used: set[str], results: Mapping[str, Result]) -> str:
    lines = ["## Runs", "", "| run | command | how | date | machine |", "|---|---|---|---|---|"]
    for name in sorted(used):
        run = results[name]
        how = f"{run.run}; {run.note}" if run.note else run.run
        lines.append(f"| {name} | `{run.command}` | {how} | {run.date} | {run.machine} |")
    return "\n".join([*lines, ""])


def _arguments() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--check", action="store_true", help="say what is not current, exit with 1 if anything is")
    arguments.add_argument("--figures", action="store_true", help="print the README's table")
    arguments.add_argument("--readme", type=Path, metavar="FILE", help="write that table between the file's markers")
    arguments.add_argument("--language", choices=sorted(HEADS), default="en", help="of the table (%(default)s)")
    arguments.add_argument("--record", type=Path, metavar="ROWS", help="keep what a benchmark wrote with --json")
    arguments.add_argument("--as", dest="name", help="with --record: the name of the result")
    arguments.add_argument("--command", help="with --record: what was typed")
    arguments.add_argument("--note", default="", help="with --record: what a reader has to know")
    return arguments


def main() -> int:
    """Write, check or print."""
    parser = _arguments()
    chosen = parser.parse_args()
    if chosen.record is not None:
        if not chosen.name or not chosen.command or not re.fullmatch(r"[a-z0-9-]+", chosen.name):
            parser.error("--record needs --as NAME (small letters, digits, hyphens) and --command")
        quick = "--quick" in chosen.command.split()
        print(_results.record(chosen.record, chosen.name, chosen.command, quick=quick, note=chosen.note).name)
        return 0
    results = _results.read()
    try:
        if chosen.figures:
            print(figures(results, chosen.language), end="")
            return 0
        if chosen.readme is not None:
            text = placed(chosen.readme.read_text(encoding="utf-8"), results, chosen.language)
            if text is None:
                print(f"{chosen.readme} has no markers: put {BEGIN} and {END} on lines of their own", file=sys.stderr)
                return 1
            chosen.readme.write_text(text, encoding="utf-8")
            return 0
        if chosen.check:
            stale = outdated(results)
            for each in stale:
                print(f"{each} is not what benchmarks/results holds: python benchmarks/_page.py", file=sys.stderr)
            return int(bool(stale))
        PAGE.write_text(page(results), encoding="utf-8")
        for plot in _plots.PLOTS:
            plot_file(plot).write_text(_plots.draw(plot, results), encoding="utf-8")
    except UnknownResult as error:
        print(error, file=sys.stderr)
        return 1
    print(f"written: docs/{PAGE.name} and {len(_plots.PLOTS)} plots")
    return 0


if __name__ == "__main__":
    sys.exit(main())
