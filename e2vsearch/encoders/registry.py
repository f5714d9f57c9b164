"""An encoder is opened by name, and missing packages are an error that names the cure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

from e2vsearch import plugins
from e2vsearch.encoders import base
from e2vsearch.encoders.base import EMOTION2VEC_NAMES, LIGHT_CARD, PRECISIONS, Encoder, EncoderOptions
from e2vsearch.errors import (
    EncoderError,
    EncoderUnavailable,
    MissingExtra,
    SettingsError,
    UnknownEncoder,
)
from e2vsearch.settings import AUTO

_log = logging.getLogger(__name__)


def names() -> tuple[str, ...]:
    """Names that `open` takes, the default for real use first."""
    return tuple(_FACTORIES)


def open(name: str, options: EncoderOptions | None = None) -> Encoder:
    """Return the encoder of that name, or of a folder: emotion2vec's, or what `training/train_light.py` wrote.

    ``auto`` is emotion2vec_plus_large where it is installed and its weights are to be had, else ``light``, with a
    warning: what a new collection takes is kept with it.

    Raises:
        UnknownEncoder: neither a known name nor a folder.
        MissingExtra: the encoder's packages are not installed.
        EncoderUnavailable: its weights are neither cached nor downloadable.
        BadWeights: its weights do not fill its network.
        SettingsError: there is no such precision, or not with that encoder.
        PluginRefused: it is of a plug-in that cannot be used.
    """
    options = options or EncoderOptions()
    if options.precision not in PRECISIONS:
        raise SettingsError(f"precision must be one of {', '.join(PRECISIONS)}, not {options.precision!r}")
    factory = _auto if name == AUTO else _FACTORIES.get(name)
    if factory is None and name and Path(name).is_dir():
        factory = _light if (Path(name) / LIGHT_CARD).is_file() else _emotion2vec
    if factory is not None:
        if options.precision != "fp32" and factory not in (_emotion2vec, _auto):
            raise SettingsError(f"encoder {name} has no precision {options.precision!r} - leave it at fp32")
        if options.device != "cpu" and factory is _light:
            _log.warning("encoder %s runs on the CPU alone: device %s is not used", name, options.device)
        return factory(name, options)
    found = _plugin(name, options)
    if found is not None:
        return found
    known = ", ".join((AUTO, *(each for each in names() if each != "fake"), SAVED, *plugins.names("encoder")))
    raise UnknownEncoder(f"no encoder called {name!r} - use one of {known}, or the path of a model folder")


def _plugin(name: str, options: EncoderOptions) -> Encoder | None:
    """Return the encoder of a plug-in, None where none has that name; `plugins` tells how it is found."""
    make = plugins.load("encoder", name)
    if make is None:
        return None
    encoder = make(options)
    if not isinstance(encoder, Encoder):
        kind, origin = type(encoder).__name__, plugins.origin("encoder", name)
        raise EncoderError(f"encoder {name} of {origin} gives a {kind} and no Encoder - report it to its authors")
    encoder.opened_by = encoder.opened_by or name
    return encoder


def _emotion2vec(name: str, options: EncoderOptions) -> Encoder:
    from e2vsearch.encoders.emotion2vec.encoder import Emotion2vecEncoder

    return Emotion2vecEncoder(name, options)


def _auto(_name: str, options: EncoderOptions) -> Encoder:
    try:
        return _emotion2vec(EMOTION2VEC_NAMES[0], options)
    except (MissingExtra, EncoderUnavailable) as error:
        if options.precision != "fp32":
            raise
        _log.warning("the encoder is light, which ships with e2vsearch: %s", error)
    return _light("light", options)


def _light(name: str, options: EncoderOptions) -> Encoder:
    from e2vsearch.encoders.light import LightEncoder

    return LightEncoder(options, None if name in _FACTORIES else Path(name))


def _fake(_name: str, _options: EncoderOptions) -> Encoder:
    from e2vsearch.encoders.fake import FakeEncoder

    return FakeEncoder()


_FACTORIES: dict[str, Callable[[str, EncoderOptions], Encoder]] = {
    **dict.fromkeys(EMOTION2VEC_NAMES, _emotion2vec),
    "light": _light,
    "fake": _fake,
}


def open_encoder(name: str, device: str, precision: str = "fp32") -> Encoder:
    """Return the encoder of that name; where its packages are missing, the error names the one that needs none.

    Raises:
        EncoderError: it cannot be opened.
        MissingExtra: its packages are not installed.
    """
    try:
        return open(name, EncoderOptions(device=device, precision=cast(base.Precision, precision)))
    except MissingExtra as error:
        raise MissingExtra(f"{error}, or use --encoder light, which works offline") from error


SAVED = "saved"
"""Encoder name of collections whose vectors were made elsewhere: nothing here can make more of them from audio."""
