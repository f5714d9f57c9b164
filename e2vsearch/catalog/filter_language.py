"""The grammar of ``--where``, and what its names and values are written like."""

from __future__ import annotations

from datetime import datetime
from functools import cache

from lark import Lark, Token

from e2vsearch.errors import BadFilter

_GRAMMAR = r"""
    ?start: _disjunction
    _disjunction: any
    any: all ("or"i all)*
    all: _term ("and"i _term)*
    _term: negation | group | comparison | one_of | none_of | like | unlike | between | missing | present
    negation: "not"i _term
    group: "(" any ")"
    comparison: name OPERATOR value
    one_of: name "in"i "(" value ("," value)* ")"
    none_of: name "not"i "in"i "(" value ("," value)* ")"
    like: name "like"i value
    unlike: name "not"i "like"i value
    between: name "between"i value "and"i value
    missing: name "is"i "null"i
    present: name "is"i "not"i "null"i
    name: NAME | QUOTED_NAME
    value: DATE | NUMBER | STRING | NAME
    OPERATOR: "=" | "==" | "!=" | "<>" | "<=" | ">=" | "<" | ">"
    DATE.3: /\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?/
    NUMBER.2: /[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?(?![\w.:-])/
    NAME: /(?!(and|or|not|in|like|between|is|null)\b)[A-Za-z_]\w*([.:-]\w+)*/i
    QUOTED_NAME: /`(?:[^`]|``)+`/
    STRING: /"(?:[^"]|"")*"/ | /'(?:[^']|'')*'/
    %ignore /\s+/
"""

Value = str | float | datetime
"""Right-hand side of a comparison."""


@cache
def parser() -> Lark:
    """Return the parser of filters, made once."""
    return Lark(_GRAMMAR, parser="lalr")


def name_of(token: Token) -> str:
    """Return the name that a token stands for."""
    return str(token)[1:-1].replace("``", "`") if token.type == "QUOTED_NAME" else str(token)


def value_of(token: Token) -> Value:
    """Return the value that a token stands for.

    Raises:
        BadFilter: a date that there is not.
    """
    if token.type == "NUMBER":
        return float(token)
    if token.type == "DATE":
        try:
            return datetime.fromisoformat(token)
        except ValueError as error:
            raise BadFilter(f"there is no date {token}: {error}") from error
    if token.type == "STRING":
        return str(token)[1:-1].replace(token[0] * 2, token[0])
    return str(token)
