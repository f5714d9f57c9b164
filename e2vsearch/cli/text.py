r"""Text of others, made harmless where it is printed: names and transcripts may hold what a terminal or Excel obeys.

Control characters move a terminal's cursor, set its title and write its clipboard; bidirectional marks show a name in
another order than it has. Both become escapes that can be read, ``\x1b``. A cell that begins with ``=`` is a formula
to a spreadsheet, however it is quoted; it gets an apostrophe in front, as OWASP recommends.
"""

from __future__ import annotations

import re

_HARMFUL = (
    "\x00-\x1f\x7f-\x9f"  # C0 and C1: escape sequences begin with either
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks, embeddings, overrides and isolates
    "\u2028\u2029"  # line and paragraph separators
    "\u00ad\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # unseen
    "\ud800-\udfff"  # bytes of a name that is no UTF-8, and halves of a character
)
_IN_LINE = re.compile(f"[{_HARMFUL}]")
_IN_LINES = re.compile(f"(?!\n)[{_HARMFUL}]")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def shown(text: str, *, lines: bool = False) -> str:
    r"""Return text for a terminal, with escapes in place of what it would obey or not show.

    >>> print(shown("call\x1b]0;mine\x07\u202e3pm"))
    call\x1b]0;mine\x07\u202e3pm

    Args:
        text: of anybody.
        lines: whether newlines are the program's own, and stay.
    """
    return (_IN_LINES if lines else _IN_LINE).sub(_escaped, text)


def json_shown(text: str) -> str:
    """Return JSON that is the same value and as harmless: `json` itself escapes the first 32 characters alone."""
    return _IN_LINES.sub(_json_escaped, text)


def cell(value: object, *, raw: bool = False) -> object:
    """Return a value as a cell of CSV: without control characters, and no formula unless it is a plain number.

    >>> cell("=1+1"), cell("-5.5"), cell(-5.5), cell("=1+1", raw=True)
    ("'=1+1", '-5.5', -5.5, '=1+1')
    """
    if not isinstance(value, str):
        return value
    if raw:
        return value
    text = _CONTROLS.sub("", value)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    if 0xDC80 <= number <= 0xDCFF:  # as os.fsdecode keeps a byte that is no UTF-8
        number -= 0xDC00
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(number)
    return short or (
        f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
    )


def _json_escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x10000:
        return f"\\u{number:04x}"
    high, low = divmod(number - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
