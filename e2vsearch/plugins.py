"""Plug-ins: encoders, engines and projections of other packages, found by their entry points.

A package declares an entry point in the group of its kind, and the module that this names says in a constant
``API_VERSION`` for which version of the interface it was written. Entry points are read when a name is asked for that
is not built in, and for listings; a plug-in's code is imported then, and not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

from e2vsearch._version import __version__
from e2vsearch.errors import PluginRefused

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Kind = Literal["encoder", "engine", "projection"]
KINDS: tuple[Kind, ...] = get_args(Kind)

API_VERSION = 1
"""Of the interface that plug-ins are written for; a change that breaks one makes it another."""

BUILT_IN = "e2vsearch"
"""The origin of what needs no plug-in."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """Something that can be named, and where it comes from."""

    kind: Kind
    name: str
    origin: str  # a distribution
    version: str  # of the distribution
    refused: str = ""  # why it cannot be used; "" if it can


def load(kind: Kind, name: str) -> Any:
    """Return what the entry point of that kind and name names; None where no package has one.

    Raises:
        PluginRefused: it was written for another version of the interface, or cannot be imported.
    """
    found = next((each for each in _entry_points(kind) if each.name == name), None)
    if found is None:
        return None
    why = _refusal(kind, found)
    if why:
        raise PluginRefused(why)
    return found.load()


def names(kind: Kind) -> tuple[str, ...]:
    """Return the names of all plug-ins of a kind; nothing of theirs is imported."""
    return tuple(sorted({each.name for each in _entry_points(kind)}))


def origin(kind: Kind, name: str) -> str:
    """Return the distribution and version of a plug-in, ``hf-encoder 0.1``; "" where there is none."""
    found = next((each for each in _entry_points(kind) if each.name == name), None)
    return "" if found is None else " ".join(_distribution(found))


def listed(kind: Kind, built_in: Iterable[str]) -> Iterator[Plugin]:
    """Yield all of a kind, what is built in first; each plug-in is imported, to tell whether it can be used.

    Args:
        kind: of plug-in.
        built_in: names that need none. A plug-in of such a name is never used.
    """
    known = tuple(built_in)
    yield from (Plugin(kind, name, BUILT_IN, __version__) for name in known)
    for each in sorted(_entry_points(kind), key=lambda found: (found.name, _distribution(found))):
        why = f"{each.name} is built in: the plug-in needs another name" if each.name in known else ""
        yield Plugin(kind, each.name, *_distribution(each), why or _refusal(kind, each))


def _entry_points(kind: Kind) -> list[EntryPoint]:
    from importlib.metadata import entry_points  # 20 ms, which a command that names nothing of others need not wait for

    return list(entry_points(group=f"e2vsearch.{kind}s"))


def _distribution(found: EntryPoint) -> tuple[str, str]:
    return (found.dist.name, found.dist.version) if found.dist is not None else ("unknown", "")


def _refusal(kind: Kind, found: EntryPoint) -> str:
    """Return why a plug-in cannot be used, "" if it can."""
    name, version = _distribution(found)
    who = f"the {kind} {found.name!r} of {name} {version}"
    try:
        module = import_module(found.module)
        found.load()
    except Exception as error:  # whatever its code throws
        why = " ".join(f"{type(error).__name__}: {error}".split())
        return f"{who} cannot be imported ({why}) - repair it, or uninstall it: pip uninstall {name}"
    written_for = getattr(module, "API_VERSION", None)
    if written_for == API_VERSION:
        return ""
    says = "does not say which plug-in interface it was written for" if written_for is None else (
        f"was written for version {written_for} of the plug-in interface"
    )  # fmt: skip
    cure = f"take another version of it: pip install -U {name}"
    if isinstance(written_for, int) and written_for > API_VERSION:
        cure = f"upgrade e2vsearch, or take an older version of {name}"
    return f"{who} {says}, and e2vsearch {__version__} has version {API_VERSION} - {cure}"
