"""``demo``: the samples ingested and searched in a folder of its own, without a checkout and without a network.

It types the commands that a user would type in that folder, prints each as it does, and leaves them to be typed again.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from e2vsearch.cli.command import command
from e2vsearch.cli.options import Quiet
from e2vsearch.cli.output import INTERRUPTED, echo, note
from e2vsearch.errors import E2vsearchError, SettingsError
from e2vsearch.settings import PREFIX

FOLDER = Path("e2vsearch-demo")
"""Where it is made, unless another folder is named."""

_NOTE = "DEMO.txt"  # it says whose the folder is: nothing is written into another one, and nothing there removed
_NOTED = """Made by e2vsearch demo, and removed by e2vsearch demo --remove.

samples/  twelve synthetic calls and a reference clip: nobody's voice is in them
index/    the collection they are ingested into
"""
_PARTS = ("samples", "index", _NOTE)
_COPIED = ("README.md", "angry.ogg", "calls.csv", "labels.csv", "calls", "transcripts")
_INGEST = ("ingest", "samples/calls", "--encoder", "light", "--meta", "samples/calls.csv")
_QUERY = ("query", "samples/angry.ogg", "-k", "5")


@command("demo", "demo tryout", "demo --remove")
def demo(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Where samples and collection are kept, so that what is shown can be typed again. One that is there "
            "must be a former demo's, or empty.",
            metavar="FOLDER",
        ),
    ] = FOLDER,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove a demo's samples and collection; other files in the folder stay.")
    ] = False,
    *,
    quiet: Quiet = False,
) -> None:
    """Find those like an angry one among twelve sample calls. It needs a few seconds, no checkout and no network.

    It can be stopped and run again at any time: what is done is kept.
    """
    if remove:
        _remove(folder)
        note(f"removed the demo in {folder}", quiet=quiet)
        return
    _lay(folder)
    note(f"all is kept in {folder}, until e2vsearch demo{_named(folder)} --remove", quiet=quiet)
    with chdir(folder), _without_settings(quiet=quiet):
        for words in (_INGEST, _QUERY):
            _type(words, quiet=quiet)
    note(_next(folder), quiet=quiet)


def samples() -> Path:
    """Return the folder of samples, which a wheel holds beside the package's modules and a checkout beside the package.

    Raises:
        E2vsearchError: it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "samples", package.parent / "samples"):
        if (folder / "angry.ogg").is_file():
            return folder
    raise E2vsearchError("the samples are missing from this installation: install e2vsearch anew")


def _lay(folder: Path) -> None:
    """Copy the samples into the folder, but for those that are there.

    Raises:
        typer.BadParameter: it is there, and neither a demo's nor empty.
        SettingsError: it cannot be written.
    """
    import shutil

    from e2vsearch.files import TEMPORARY, unwritable

    if folder.exists() and not _is_ours(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise typer.BadParameter(f"{folder} is there, and no demo's: name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _NOTE).write_text(_NOTED, encoding="utf-8")
        source = samples()
        for name in _COPIED:
            whole = source / name
            for path in sorted(whole.rglob("*")) if whole.is_dir() else [whole]:
                target = folder / "samples" / path.relative_to(source)
                if path.is_dir() or target.exists():
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                aside = target.with_name(target.name + TEMPORARY)  # stopped meanwhile, it is no sample yet
                shutil.copyfile(path, aside)
                aside.replace(target)
    except OSError as error:
        raise SettingsError(unwritable(folder, error)) from error


def _is_ours(folder: Path) -> bool:
    try:
        return (folder / _NOTE).read_text(encoding="utf-8").partition("\n")[0] == _NOTED.partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return False


def _remove(folder: Path) -> None:
    """Remove what a demo made, and the folder if nothing else is in it.

    Raises:
        typer.BadParameter: it is no demo's.
    """
    import shutil

    if not folder.exists():
        raise typer.BadParameter(f"there is no {folder}, so that nothing is removed: name the demo's folder")
    if not _is_ours(folder):
        raise typer.BadParameter(f"{folder} is no demo's: nothing is removed")
    for name in _PARTS:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def _without_settings(*, quiet: bool) -> Iterator[None]:
    """Hide settings of the environment: one may name another collection, encoder or engine."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(PREFIX) and name != f"{PREFIX}DEBUG"}
    if hidden:
        note(f"settings that are left aside: {', '.join(sorted(hidden))}", quiet=quiet)
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _type(words: Sequence[str], *, quiet: bool) -> None:
    """Print a command, and run it in this process.

    Raises:
        typer.Exit: it ended with another code than 0.
    """
    from e2vsearch.cli import app_of

    if not quiet:
        echo(f"\n$ e2vsearch {shlex.join(words)}")
        sys.stdout.flush()
    how = ["--format", "table", *(["--quiet"] if quiet else [])]
    code = typer.main.get_command(app_of(words[0])).main([*words, *how], "e2vsearch", standalone_mode=False)
    if code == INTERRUPTED:
        note("interrupted - run it again to go on")
    if code:
        raise typer.Exit(code)


def _named(folder: Path) -> str:
    return "" if folder == FOLDER else f" {shlex.quote(str(folder))}"


def _next(folder: Path) -> str:
    """Return what to type next; with what to install for the page, where that is not there."""
    import importlib.util

    page = "e2vsearch serve --open"
    if importlib.util.find_spec("fastapi") is None:
        page = f"pip install 'e2vsearch[serve]' && {page}\n  uvx --from 'e2vsearch[serve]' {page}   # the same with uv"
    return f"""
next, and the page in a browser:
  cd {shlex.quote(str(folder))}
  e2vsearch query samples/angry.ogg --where 'queue = billing' -k 3
  e2vsearch show call:10
  {page}"""
