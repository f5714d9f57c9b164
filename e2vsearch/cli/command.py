"""Commands and groups of them: functions whose shared options are dataclasses, with plain help in panels.

A group is a noun, and its commands are verbs. What is typed after the group's name and is no verb goes to its main
one: ``map -o map.html`` is ``map build -o map.html``, and ``queue`` is ``queue show``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

OUTPUT = "Collection and output"
"""The last panel of each command's help."""

_TYPES = (
    (re.compile(r"<(?:list\[)?str\]?>"), "TEXT"),
    (re.compile(r"<int(?: range)?>"), "N"),
    (re.compile(r"<float(?: range)?>"), "NUMBER"),
    (re.compile(r"<(?:list\[)?path\]?>", re.IGNORECASE), "FILE"),
)


_WORDS = (
    (re.compile(r"Input should be greater than or equal to (.+)"), r"write \1 or more"),
    (re.compile(r"Input should be less than or equal to (.+)"), r"write \1 or less"),
    (re.compile(r"Input should be a valid integer.*"), "write a whole number"),
    (re.compile(r"Input should be a valid number.*"), "write a number"),
    (re.compile(r"Input should be (.+)"), r"write \1"),
    (re.compile(r"Value error, (.+?)\.?"), r"\1"),
    # of Typer before it converted with pydantic
    (re.compile(r".+ is not in the range x>=(.+)\."), r"write \1 or more"),
    (re.compile(r".+ is not in the range (.+)<=x<=(.+)\."), r"write \1 to \2"),
    (re.compile(r".+ is not a valid integer.*"), "write a whole number"),
    (re.compile(r".+ is not a valid float.*"), "write a number"),
)


@dataclass(frozen=True, slots=True)
class Command:
    """A function as the command line runs it.

    Attributes:
        name: of the command.
        run: takes each option by its name.
        epilog: examples, shown below the options.
        moved: options that it has not, and what to write instead.
    """

    name: str
    run: Callable[..., None]
    epilog: str
    moved: Mapping[str, str]

    def add_to(self, app: typer.Typer, panel: str | None = None) -> None:
        """Make it a command of `app`, in a panel of its help."""
        kind = type("_Command", (_PlainCommand,), {"moved": self.moved})
        app.command(self.name, epilog=self.epilog, cls=kind, rich_help_panel=panel)(self.run)


@dataclass(frozen=True, slots=True)
class Group:
    """Commands on one thing, such as ``map build`` and ``map list``."""

    name: str
    app: typer.Typer

    def add_to(self, app: typer.Typer, panel: str | None = None) -> None:
        """Make it a group of `app`, in a panel of its help."""
        app.add_typer(self.app, name=self.name, rich_help_panel=panel)


def command(*examples: str, moved: Mapping[str, str] | None = None) -> Callable[[Callable[..., None]], Command]:
    """Turn a function into a command of its name.

    A parameter that is annotated with a dataclass becomes one option for each of the class's fields.

    Args:
        examples: command lines without ``e2vsearch``.
        moved: options that it has not, but had once or that others have, and what to write instead.
    """
    lines = "\n".join(f"  e2vsearch {each}" for each in examples)

    def decorate(function: Callable[..., None]) -> Command:
        name = function.__name__.rstrip("_").replace("_", "-")
        return Command(name, expand_options(function), f"\b\nExamples:\n{lines}", moved or {})

    return decorate


def group(name: str, help_: str, *commands: Command, main: str) -> Group:
    """Return a group of commands.

    Args:
        name: of the group.
        help_: what they are about.
        commands: its verbs.
        main: the one that the group's name alone stands for.
    """
    app = typer.Typer(
        help=f"{help_} Alone: {name} {main}.",
        cls=type("_Group", (PlainGroup,), {"main_verb": main}),
        rich_markup_mode=None,
    )
    for each in commands:
        each.add_to(app)
    return Group(name, app)


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


def _in_our_words(message: str) -> str:
    """Return what Typer says of a value, in pydantic's words or Click's, as what to write."""
    for pattern, words in _WORDS:
        if pattern.fullmatch(message):
            return pattern.sub(words, message)
    return message


def _taking_plain_values(param: Any) -> Any:
    """Return a parameter that takes values which need no conversion as they are.

    Typer converts all of them with pydantic, those that are not given as well; to load it and to make a converter for
    each of a command's thirty options takes longer than `import numpy`. Whatever else is typed, and all that is wrong,
    still goes through Typer.
    """
    convert, of = param.process_value, getattr(param, "type_descriptor", None)
    if of is None or "process_value" in vars(param):  # another Typer; or this is done
        return param
    several = param.multiple or param.nargs == -1

    def process_value(ctx: Any, value: Any) -> Any:
        if value is None and not param.required and not several:
            return param.callback(ctx, param, None) if param.callback else None
        if param.callback:
            return convert(ctx, value)
        if value is None and not param.required:
            return ()
        text = type(value) is str
        if text and (of.annotation is str or (of.is_choice and not of.is_list and value in of.choices)):
            return value
        if of.annotation == list[str] and several and value and all(type(each) is str for each in value):
            return list(value)
        if of.annotation is int and (type(value) is int or (text and re.fullmatch(r"[0-9]{1,15}", value))):
            limits = of.parameter_info
            if not limits.clamp and (limits.min or -math.inf) <= int(value) <= (limits.max or math.inf):
                return int(value)
        return convert(ctx, value)

    param.process_value = process_value
    return param


class _PlainCommand(TyperCommand):
    """A command with plain help in panels: it comes 0.1 s sooner than rich's, and can be piped."""

    moved: ClassVar[Mapping[str, str]] = {}

    def get_params(self, ctx: Any) -> list[Any]:
        return [_taking_plain_values(each) for each in super().get_params(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for each in args[: args.index("--")] if "--" in args else args:
            if (flag := each.partition("=")[0]) in self.moved:
                ctx.fail(f"No such option: {flag} - write {self.moved[flag]}")
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _in_our_words(error.message)
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [param for param in self.get_params(ctx) if param.param_type_name == "argument"]
        return ["[OPTIONS]", *(_usage(each) for each in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self, ctx, formatter)


class PlainGroup(TyperGroup):
    """A group with plain help in panels, and maybe a main command.

    Attributes:
        main_verb: its main command.
        order: of its commands in help; otherwise groups follow commands.
    """

    main_verb: ClassVar[str | None] = None
    order: ClassVar[Sequence[str]] = ()

    def get_params(self, ctx: Any) -> list[Any]:
        """Return its own options."""
        return [_taking_plain_values(each) for each in super().get_params(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the main command before what is no command of the group's."""
        completing = ctx.resilient_parsing and not args
        named = args[:1] and args[0] in (*self.commands, *ctx.help_option_names)
        if self.main_verb is not None and not completing and not named:
            args = [self.main_verb, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete commands, and the options of the main one."""
        found = super().shell_complete(ctx, incomplete)
        if self.main_verb is not None:
            main = self.commands[self.main_verb]
            below = main.make_context(self.main_verb, [], parent=ctx, resilient_parsing=True)
            found += [each for each in main.shell_complete(below, incomplete) if each.value not in ("-h", "--help")]
        return found

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write commands first."""
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of commands in their order."""
        found = super().list_commands(ctx)
        return sorted(found, key=lambda name: self.order.index(name) if name in self.order else len(self.order))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a line for each command, in panels."""
        named = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        found = [(name, each) for name, each in named if not each.hidden]
        width = max((len(name) for name, _ in found), default=0)
        rows = [
            (_panel(each) or "Commands", (name.ljust(width), _first_sentence(each.help or ""))) for name, each in found
        ]
        _write_panels(rows, formatter)


def _write_options(of: Any, ctx: Any, formatter: Any) -> None:
    """Write arguments, then options in their panels: those without one first."""
    rows = []
    for param in of.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        name, text = record
        if param.param_type_name == "argument":  # it has a name
            name = name.partition(" <")[0]
        for pattern, plain in _TYPES:
            name = pattern.sub(plain, name)
        panel = "Arguments" if param.param_type_name == "argument" else _panel(param) or "Options"
        rows.append((panel, (name, text)))
    if any(panel == OUTPUT for panel, _ in rows):
        rows = [(OUTPUT if row[0].endswith("--help") else panel, row) for panel, row in rows]
    _write_panels(sorted(rows, key=lambda row: row[0] == OUTPUT), formatter)


def _write_panels(rows: Iterable[tuple[str, tuple[str, str]]], formatter: Any) -> None:
    panels: dict[str, list[tuple[str, str]]] = {}
    for panel, row in rows:
        panels.setdefault(panel, []).append(row)
    for panel, of in panels.items():
        with formatter.section(panel):
            formatter.write_dl(of)


def _usage(argument: Any) -> str:
    name = str(argument.metavar or argument.name)
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _panel(of: Any) -> str | None:
    panel = getattr(of, "rich_help_panel", None)
    return panel if isinstance(panel, str) else None


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.split("\n\n")[0].split()), maxsplit=1)[0]
