"""Where a setting comes from: flag, then environment, then e2vsearch.toml, then default.

`E2VSEARCH_INDEX=calls_index` in the environment and `index = "calls_index"` in ``e2vsearch.toml`` (in the current
folder, or where `E2VSEARCH_CONFIG` says) are the same setting as ``--index calls_index``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from e2vsearch.errors import SettingsError

PREFIX = "E2VSEARCH_"
AUTO = "auto"
"""Encoder of a new collection, unless one is named: emotion2vec_plus_large where it is installed and its weights are to
be had, else `light`, with a note. Of a collection that there is, its own."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set once for all commands."""

    index: str = "index"  # a folder, or a database URL
    encoder: str = AUTO
    device: str = "cpu"
    precision: str = ""  # of emotion2vec, see EncoderOptions; "": the collection's own, and fp32 for a new collection
    workers: int = 0  # recordings in work at a time; 0: as many as suits the encoder, see `Encoder.calls_at_once`
    cache: str = ""  # generations of a collection that has no folder of its own; "": the user's cache folder
    audio_cache_mb: int = 1000  # of what is played from buckets, kept on this machine; 0: nothing
    max_audio_s: int = 43_200  # of a recording that is ingested or embedded: twelve hours, a recorder's whole shift
    query_log: int = 256  # last query vectors kept beside the index, to measure its recall on them too; 0: none
    engine: str = ""  # of a new collection: faiss, pgvector or milvus; "": faiss
    engine_url: str = ""  # of Milvus: http://host:19530, or a folder for milvus-lite
    weights_cache: str = ""  # stripped copies of emotion2vec checkpoints; "": in the user's cache folder, "off": none

    @property
    def named_encoder(self) -> str:
        """The encoder that is asked for; empty where it is the collection's own, or whatever a new one takes."""
        return "" if self.encoder == AUTO else self.encoder


def load(environ: Mapping[str, str] | None = None, folder: Path | None = None, **flags: str | int | None) -> Settings:
    """Return the settings in force.

    Args:
        environ: the environment, `os.environ` by default.
        folder: where ``e2vsearch.toml`` is looked for, the current folder by default.
        **flags: what the user said on the command line or in Python; None means not said.

    Raises:
        SettingsError: an unknown name, a value of the wrong type, or a file that is not TOML.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = dict(_from_file(environ, folder or Path.cwd()))
    for field in fields(Settings):
        text = environ.get(PREFIX + field.name.upper())
        if text:
            values[field.name] = _typed(field.name, text, f"{PREFIX}{field.name.upper()}")
    values.update({name: value for name, value in flags.items() if value is not None})
    return Settings(**values)


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity call
        return os.cpu_count() or 1


def user_cache() -> Path:
    """Return the folder for what can be made again: ``~/.cache/e2vsearch`` everywhere, as model hubs have theirs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "e2vsearch"


def _from_file(environ: Mapping[str, str], folder: Path) -> dict[str, Any]:
    named = environ.get(PREFIX + "CONFIG")
    path = Path(named) if named else folder / "e2vsearch.toml"
    if not path.is_file():
        if named:
            raise SettingsError(f"{PREFIX}CONFIG names {path}, which is no file")
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    return {name: _typed(name, value, str(path)) for name, value in table.items()}


def _typed(name: str, value: object, where: str) -> str | int:
    known = {field.name: type(field.default) for field in fields(Settings)}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise SettingsError(f"{where}: no setting called {name!r} - {hint}")
    if known[name] is int:
        try:
            return int(str(value))
        except ValueError as error:
            raise SettingsError(f"{where}: {name} must be a whole number, not {value!r}") from error
    if not isinstance(value, str):
        raise SettingsError(f"{where}: {name} must be text, not {value!r}")
    return value
