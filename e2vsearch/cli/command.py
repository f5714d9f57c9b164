"""Commands: functions whose shared options are dataclasses, and whose help ends in examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

import typer


@dataclass(frozen=True, slots=True)
class Command:
    """A function as the command line runs it.

    Attributes:
        name: of the command.
        run: takes each option by its name.
        epilog: examples, shown below the options.
    """

    name: str
    run: Callable[..., None]
    epilog: str

    def add_to(self, app: typer.Typer) -> None:
        """Make it a command of `app`."""
        app.command(self.name, epilog=self.epilog)(self.run)


def command(*examples: str) -> Callable[[Callable[..., None]], Command]:
    """Turn a function into a command of its name.

    A parameter that is annotated with a dataclass becomes one option for each of the class's fields.

    Args:
        examples: command lines without ``e2vsearch``.
    """
    lines = "\n".join(f"  e2vsearch {each}" for each in examples)

    def decorate(function: Callable[..., None]) -> Command:
        return Command(function.__name__.rstrip("_"), expand_options(function), f"\b\nExamples:\n{lines}")

    return decorate


def group(help_: str, *commands: Command) -> typer.Typer:
    """Return a group of commands."""
    app = typer.Typer(help=help_, no_args_is_help=True)
    for each in commands:
        each.add_to(app)
    return app


def expand_options(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function with the fields of its dataclasses as parameters of their own."""
    hints = get_type_hints(function, include_extras=True)
    blocks: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in signature(function).parameters.items():
        given = _fields(blocks[name]) if name in blocks else {name: (hints[name], parameter.default)}
        parameters += [
            Parameter(each, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for each, (hint, default) in given.items()
        ]

    def run(**values: Any) -> None:
        for name, block in blocks.items():
            values[name] = block(**{each.name: values.pop(each.name) for each in fields(block)})
        function(**values)

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return run


def _fields(block: Any) -> Mapping[str, tuple[Any, Any]]:
    """Return the annotation and the default of each field."""
    hints = get_type_hints(block, include_extras=True)
    return {each.name: (hints[each.name], each.default) for each in fields(block)}
