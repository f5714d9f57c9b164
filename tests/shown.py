"""What a document shows, held against what was printed: every line in its order, every word, every number.

Numbers are equal to within a tolerance, which says how far machines may differ, and ids up to their names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"(?P<fitted>shipped@[0-9a-f]{12})"
    r"|(?P<hash>@[0-9a-f]{12})"
    r"|(?P<id>(?:seg|call):\d+)"
    r"|(?P<percentile>(?<=\.\d{4} )\d+\.\d(?= ))"  # beside the score
    r"|(?P<bar>(?=[█▌·]{5})█*▌?·*)"
    r"|(?P<time>\d+:\d\d\.\d)"
    r"|(?P<seconds>\d+\.\d+(?= s\b))"
    r"|(?P<factor>\d+\.\d+(?=x))"
    r"|(?P<percent>\d+(?:\.\d+)?(?= ?%))"
    r"|(?P<decimal>\d+\.\d+)"
    r"|(?P<count>\d+)"
)


@dataclass(frozen=True)
class Shown:
    """Something that a document says to type or to run, and what it says is printed."""

    code: str
    printed: str


def commands(text: str) -> list[Shown]:
    """What is typed after a ``$``, with the lines that follow it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            code, _, printed = part.partition("\n")
            found.append(Shown(code, printed))
    return found


def scripts(text: str) -> list[Shown]:
    """Every block of Python, with the block of text that may follow it."""
    pattern = r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?"
    return [Shown(*parts) for parts in re.findall(pattern, text, re.MULTILINE | re.DOTALL)]


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a printed number may be from the one that a document shows."""

    decimal: float = 0.01  # scores and probabilities: int8 kernels with VNNI differ from those without by 0.001
    percent: float = 1.0
    percentile: float = 2.0  # of the samples' 28 segments: some hundreds of pairs
    factor: float = 0.1  # as in "1.2x"
    seconds: float = 0.1  # one window of the VAD is 0.03 s, and times are rounded to 0.1
    count: int = 0
    bar: float = 0.5  # blocks of an emotion's probability, a fifth each

    def near(self, kind: str, shown: str, printed: str) -> bool:
        """Whether two numbers of a kind are the same one."""
        wanted = self.seconds if kind == "time" else getattr(self, kind)
        return abs(_value(shown) - _value(printed)) <= wanted + 1e-9


@dataclass
class Document:
    """One document's ids by the names that they have in this run; they are the same all over the document."""

    _named: dict[str, str] = field(default_factory=dict)
    _shown: dict[str, str] = field(default_factory=dict)

    def differences(self, shown: str, printed: str, tolerances: Tolerances | None = None) -> list[str]:
        """Each line that is not as it is shown, with what is printed in its place."""
        theirs, ours = _lines(shown), _lines(printed)
        found = [
            f"shown:   {theirs[at]}\nprinted: {ours[at]}"
            for at in range(min(len(theirs), len(ours)))
            if not self._alike(theirs[at], ours[at], tolerances or Tolerances())
        ]
        found += [f"shown:   {line}\nprinted: nothing" for line in theirs[len(ours) :]]
        return found + [f"shown:   nothing\nprinted: {line}" for line in ours[len(theirs) :]]

    def _alike(self, shown: str, printed: str, tolerances: Tolerances) -> bool:
        theirs, ours = list(_TOKEN.finditer(shown)), list(_TOKEN.finditer(printed))
        if _TOKEN.sub("#", shown) != _TOKEN.sub("#", printed):
            return False
        return all(
            self._same(str(a.lastgroup), a.group(), b.group(), tolerances) if a.lastgroup == b.lastgroup else False
            for a, b in zip(theirs, ours, strict=True)
        )

    def _same(self, kind: str, shown: str, printed: str, tolerances: Tolerances) -> bool:
        if kind == "fitted":  # a hash of floats that were fitted on this machine
            return True
        if kind == "hash":
            return shown == printed
        if kind == "id":
            return self._named.setdefault(shown, printed) == printed and self._shown.setdefault(printed, shown) == shown
        return tolerances.near(kind, shown, printed)


def _lines(text: str) -> list[str]:
    """Lines that are not empty, columns one space apart: their width follows from their longest number."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _value(number: str) -> float:
    if number[:1] in "█▌·":
        return number.count("█") + number.count("▌") / 2
    minutes, _, rest = number.rpartition(":")
    return float(minutes or 0) * 60 + float(rest)
