"""Pages of the reference that are generated: the command line, the HTTP service, the database's tables.

Each is made from what it describes, so that no page can lag behind: the commands' own help, the service's OpenAPI
document, SQLAlchemy's metadata.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_MARKUP = re.compile(r"([\\`*_<>\[\]|#$~])")


def plain(text: str) -> str:
    """Return a text as Markdown that shows it as it is."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def prose(text: str) -> str:
    """Return a text of docstrings or of the OpenAPI document as Markdown: names in backticks are code."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.replace("``", "`").split()))
    return "".join(part.replace("|", "\\|") if part.startswith("`") else _MARKUP.sub(r"\\\1", part) for part in parts)


def code(text: str) -> str:
    """Return a text as code, also in a cell of a table."""
    return "`" + text.replace("|", "\\|") + "`"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table; none where there are no rows."""
    head = list(head)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines, ""] if lines else []


# --- the command line


class _Options:
    """Formats the options of a command as definition lists of Markdown, in panels."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Begin a panel."""
        self.lines += ["", f"**{name}**", ""]
        yield

    def write_dl(self, rows: Iterable[tuple[str, str]]) -> None:
        """Write options with their meaning."""
        for name, text in rows:
            self.lines += [f"`{name}`", f": {plain(text)}", ""]


def command_line() -> str:
    """Return the page of the command line."""
    import typer

    from e2vsearch.cli import app

    root: Any = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "Every command, as `--help` shows it. What applies to all of them is in [settings.md](settings.md).",
        "",
    ]
    for name in root.list_commands(None):
        lines += _command(root.commands[name], f"e2vsearch {name}", 2)
    return "\n".join(lines) + "\n"


def _command(command: Any, path: str, level: int) -> list[str]:
    context = command.make_context(path, [], resilient_parsing=True)
    below = getattr(command, "commands", {})
    shown = command.commands[command.main_verb] if below else command
    usage = " ".join([path, *(["[COMMAND]"] if below else []), *shown.collect_usage_pieces(context)])
    paragraphs = [plain(each) for each in (command.help or "").split("\n\n")]
    lines = [f"{'#' * level} {path}", "", *("\n\n".join(paragraphs).splitlines()), "", "```text", usage, "```"]
    if below:
        for name, each in below.items():
            lines += ["", *_command(each, f"{path} {name}", level + 1)]
        return lines
    options = _Options()
    command.format_options(context, options)
    lines += options.lines
    examples = re.findall(r"^ +(e2vsearch .*)$", command.epilog or "", re.MULTILINE)
    return [*lines, "", "```text", *examples, "```", ""] if examples else [*lines, ""]


# --- the service


def openapi() -> Mapping[str, Any]:
    """Return the OpenAPI document of the service."""
    import e2vsearch
    from e2vsearch.server import create_app

    with tempfile.TemporaryDirectory() as folder, e2vsearch.open(folder, encoder="light", create=True) as collection:
        document: dict[str, Any] = create_app(collection).openapi()
    return document


def http() -> str:
    """Return the page of the HTTP service."""
    document = openapi()
    lines = [
        "# HTTP",
        "",
        f"{document['info']['description']} `e2vsearch serve` starts it ([serve.md](../howto/serve.md)); a running",
        "service has this page as `/docs`, and the document that it is made of as `/openapi.json`.",
    ]
    tagged: dict[str, list[str]] = {}
    errors: dict[str, str] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tagged.setdefault(operation["tags"][0], []).extend(_operation(path, method, operation))
            errors |= {status: each["description"] for status, each in operation["responses"].items() if status >= "4"}
    lines += ["", "An error is an object [ErrorBody](#errorbody):"]
    lines += table(("status", "when"), ((status, prose(errors[status])) for status in sorted(errors)))
    for tag in document["tags"]:
        lines += ["", f"## {tag['name'].capitalize()}", "", prose(tag["description"]), *tagged.pop(tag["name"], [])]
    for name, operations in tagged.items():
        lines += ["", f"## {name.capitalize()}", *operations]
    lines += ["", "## Objects", "", "What bodies and answers are made of."]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += ["", f"### {name}", "", prose(schema.get("description", "")), *_fields(schema)]
    return "\n".join(lines) + "\n"


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> list[str]:
    lines = ["", f"### {method.upper()} {path}", ""]
    lines += [f"{prose(operation['summary'])}. {prose(operation.get('description', ''))}"]
    lines += table(
        ("parameter", "in", "type", "meaning"),
        (
            (code(each["name"]), each["in"], _type(each["schema"]), prose(each.get("description", "")))
            for each in operation.get("parameters", ())
        ),
    )
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        lines += ["", f"Takes `{kind}`" + (":" if "properties" in schema else f", {_type(schema)}."), *_fields(schema)]
    for status, answer in operation["responses"].items():
        if status < "4":
            kinds = [
                _type(content["schema"]) if "json" in kind and "schema" in content else code(kind)
                for kind, content in answer.get("content", {}).items()
            ]
            lines += ["", f"Answers {status}{' with ' if kinds else ''}{' or '.join(kinds)}."]
    errors = ", ".join(status for status in operation["responses"] if status >= "4")
    return [*lines, *(["", f"Errors: {errors}."] if errors else [])]


def _type(schema: Mapping[str, Any]) -> str:
    """Return a type in words, with links to objects."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(code(json.dumps(each)) for each in schema["enum"])
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def _fields(schema: Mapping[str, Any]) -> list[str]:
    required = set(schema.get("required", ()))
    return table(
        ("field", "type", "default", "meaning"),
        (
            (
                code(name),
                _type(each),
                "required" if name in required else code(json.dumps(each["default"])) if "default" in each else "",
                prose(each.get("description", "")),
            )
            for name, each in schema.get("properties", {}).items()
        ),
    )


# --- the database


def database() -> str:
    """Return the page of the database's tables."""
    from sqlalchemy.dialects import postgresql, sqlite

    import e2vsearch.catalog.beside  # noqa: F401 - it declares two tables that a query does without
    from e2vsearch.catalog.schema import SCHEMA_REVISION, Base

    classes = {each.__tablename__: each for each in Base.__subclasses__()}
    lines = [
        "# SQL schema",
        "",
        f"The same tables in SQLite and in Postgres, at revision {SCHEMA_REVISION}. Anything that reads SQL may read",
        "them; only e2vsearch writes them, since rows have checksums and indexes read the change feed. SQLite has a",
        "full-text index of the transcripts besides, and triggers that keep it:",
        "[sqlite.sql](../../migrations/sqlite.sql) has all.",
    ]
    for each in Base.metadata.sorted_tables:
        about = (classes[each.name].__doc__ or "").split("\n\n")
        lines += ["", f"## {each.name}", "", "\n\n".join(prose(part) for part in about)]
        rows = []
        for column in each.columns:
            kinds = [column.type.compile(dialect()) for dialect in (sqlite.dialect, postgresql.dialect)]
            notes = ["primary key"] if column.primary_key else []
            notes += [] if column.nullable or column.primary_key else ["not null"]
            targets = [key.column for key in column.foreign_keys]
            notes += [f"of [{each.table.name}](#{each.table.name})`.{each.name}`" for each in targets]
            rows.append((code(column.name), code(kinds[0]), code(kinds[1]), ", ".join(notes)))
        lines += table(("column", "SQLite", "Postgres", ""), rows)
    return "\n".join(lines) + "\n"


REFERENCES: Mapping[str, Callable[[], str]] = {
    "reference/cli.md": command_line,
    "reference/http.md": http,
    "reference/sql.md": database,
}
