"""A model folder, as it is published, is read from disk or fetched from a hub."""

from __future__ import annotations

import importlib
import json
import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2vsearch.encoders.emotion2vec.funasr import silenced
from e2vsearch.errors import BadWeights, EncoderUnavailable, first_line

_REACH_S = 5.0
"""How long a hub may take to answer at all. Its own client tries four times, 22 s where names do not resolve."""

_SIZES_ONLY = re.compile(r"[\d\s()\[\],+*]+")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that holds everything a network is made of."""

    path: Path
    checkpoint: Path
    config: Mapping[str, Any]  # config.yaml
    token_list: Path | None  # the names of the classes


@dataclass(frozen=True, slots=True)
class _Hub:
    """A place that `funasr.AutoModel` downloads from, by the client and with the arguments that it uses."""

    label: str
    client: str
    owner: str
    endpoint: str
    endpoint_variables: tuple[str, ...]
    arguments: Mapping[str, str] = field(default_factory=dict)

    def snapshot(self, name: str, *, cached: bool) -> Path:
        download = importlib.import_module(self.client).snapshot_download
        return Path(download(f"{self.owner}/{name}", local_files_only=cached, **self.arguments))

    def answers(self) -> bool:
        """Return whether anything at all comes back from the hub; proxies of the environment are used."""
        url = next(filter(None, map(os.environ.get, self.endpoint_variables)), self.endpoint)
        request = urllib.request.Request(url if "://" in url else f"https://{url}", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_REACH_S):
                return True
        except urllib.error.HTTPError:
            return True
        except urllib.error.URLError as error:
            return isinstance(error.reason, ssl.SSLError)  # the client may trust other certificates
        except (OSError, ValueError):
            return False


_HUBS = (
    _Hub(
        "ModelScope",
        "modelscope.hub.snapshot_download",
        "iic",
        "https://modelscope.cn",
        ("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"),
        {"revision": "master"},  # older revisions have a tokens.txt of five classes (ddlBoJack/emotion2vec issue 45)
    ),
    _Hub("Hugging Face", "huggingface_hub", "emotion2vec", "https://huggingface.co", ("HF_ENDPOINT",)),
)


def fetch(name: str) -> ModelFolder:
    """Return the folder of a published model: cached from either hub, else downloaded, ModelScope first.

    Progress of a download goes to stderr.

    Raises:
        EncoderUnavailable: no cached copy, and no hub gave one.
    """
    folder = cached(name)
    if folder is not None:
        return folder
    reasons = []
    for hub in _HUBS:
        if not hub.answers():
            reasons.append(f"{hub.label} cannot be reached")
            continue
        try:
            with redirect_stdout(sys.stderr):
                return read(hub.snapshot(name, cached=False))
        except Exception as error:
            reasons.append(f"{hub.label}: {first_line(error)}")
    raise EncoderUnavailable(
        f"the weights of {name} are not cached and cannot be downloaded ({'; '.join(reasons)}): use --encoder light, "
        "which needs no download, or --encoder FOLDER with a local copy of the model"
    )


def cached(name: str) -> ModelFolder | None:
    """Return the folder of a published model as a hub's client has cached it; None if neither has it whole."""
    with silenced():
        for hub in _HUBS:
            try:
                return read(hub.snapshot(name, cached=True))
            except Exception:  # each client has its own errors for "not cached", and half a copy is none
                continue
    return None


def read(path: Path) -> ModelFolder:
    """Return the model folder at `path`, its files found but its weights not read yet.

    Raises:
        BadWeights: a file is missing or does not say what it should.
        EncoderUnavailable: there is no folder.
    """
    if not path.is_dir():
        raise EncoderUnavailable(f"{path} is not a folder; give --encoder the folder of an emotion2vec model")
    files = _files_named_in(path / "configuration.json")
    config_path = path / str(files.get("config", "config.yaml"))
    checkpoint = path / str(files.get("init_param", "model.pt"))
    for file in (config_path, checkpoint):
        if not file.is_file():
            raise BadWeights(f"{path} has no {file.name}, so it is not a whole emotion2vec model; copy it again")
    return ModelFolder(path, checkpoint, _config(config_path), _token_list(path, files))


def _files_named_in(configuration: Path) -> Mapping[str, Any]:
    if not configuration.is_file():
        return {}
    try:
        files = json.loads(configuration.read_text(encoding="utf-8")).get("file_path_metas", {})
    except (OSError, ValueError, AttributeError) as error:
        raise BadWeights(f"{configuration} is not the JSON object that it should be: {first_line(error)}") from error
    if not isinstance(files, dict):
        raise BadWeights(f"{configuration}: file_path_metas must name the model's files; copy it again")
    return files


def _token_list(path: Path, files: Mapping[str, Any]) -> Path | None:
    named = files.get("tokenizer_conf")
    if isinstance(named, dict) and isinstance(named.get("token_list"), str):
        names: tuple[str, ...] = (named["token_list"],)
    else:
        names = () if files else ("tokens.json", "tokens.txt")  # where FunASR looks without a configuration.json
    return next((path / name for name in names if (path / name).is_file()), None)


def _config(path: Path) -> Mapping[str, Any]:
    import yaml
    from omegaconf import OmegaConf  # as FunASR reads it: plain YAML takes 1e-05 for a text, and knows no ${references}
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise BadWeights(f"{path} is not valid YAML: {first_line(error)}") from error
    if not isinstance(config, dict) or config.get("model") != "Emotion2vec":
        kind = config.get("model") if isinstance(config, dict) else None
        raise BadWeights(f"{path} is not of an emotion2vec model (model: {kind}); give another folder")
    try:
        spec = config["model_conf"]["modalities"]["audio"]["feature_encoder_spec"]
    except (KeyError, TypeError) as error:
        raise BadWeights(f"{path} does not describe a whole network: {first_line(error)} is missing") from error
    # FunASR runs this text as Python (models/emotion2vec/audio.py), so that it must hold nothing but numbers
    if not _SIZES_ONLY.fullmatch(str(spec)):
        raise BadWeights(f"{path}: feature_encoder_spec must be a list of layer sizes, not {str(spec)[:60]!r}")
    return config
