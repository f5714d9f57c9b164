"""``encoders`` and ``plugins``: what can be named, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from e2vsearch.cli.command import command
from e2vsearch.cli.output import Results
from e2vsearch.cli.table import Column

if TYPE_CHECKING:
    from e2vsearch.plugins import Kind, Plugin

_COLUMNS: dict[str, str | Column] = {
    "kind": "kind",
    "name": "name",
    "origin": "from",
    "version": "version",
    "refused": Column(fit="wrap", below=True),
}


@command("encoders", "encoders --format json")
def encoders(*, results: Results) -> None:
    """List the encoders, and where they come from. A plug-in that cannot be used is listed with the reason."""
    rows = [asdict(each) for each in _listed("encoder")]
    results.write_rows(rows, {name: each for name, each in _COLUMNS.items() if name != "kind"}, none="none")


@command("plugins", "plugins --format json")
def plugins(*, results: Results) -> None:
    """List encoders, engines and projections with their origin.

    A plug-in that cannot be used is listed with the reason.
    """
    from e2vsearch.plugins import KINDS

    results.write_rows([asdict(each) for kind in KINDS for each in _listed(kind)], _COLUMNS, none="none")


def _listed(kind: Kind) -> Iterator[Plugin]:
    from e2vsearch import plugins as found

    yield from found.listed(kind, _built_in(kind))


def _built_in(kind: Kind) -> tuple[str, ...]:
    if kind == "encoder":
        from e2vsearch.encoders import registry

        return tuple(name for name in registry.names() if name != "fake")
    if kind == "engine":
        from e2vsearch.catalog.engine_choice import ENGINES

        return ENGINES
    from e2vsearch.projections.view import BUILT_IN

    return BUILT_IN
