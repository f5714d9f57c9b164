"""emotion2vec as tests open it, and FunASR's own front door to compare it with. Knows folders, makes none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
from command import Run

from e2vsearch.encoders.base import EncoderOptions
from e2vsearch.encoders.emotion2vec.encoder import Emotion2vecEncoder
from e2vsearch.encoders.emotion2vec.funasr import silenced

# importorskip would import FunASR under warnings as errors, and FunASR hides modules that fail to import
NEEDED = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or importlib.util.find_spec("funasr") is None,
    reason="the 'emotion2vec' extra is not installed",
)

SAME = 5e-6
"""How far a vector may be from what its clip gets alone: the order of sums, and nothing else."""


SIGNALS = {
    "shortest": made.noise(0.025),
    "one sample more": made.noise(401 / 16_000),
    "half a second": made.speech(0.5),
    "two seconds": made.speech(2.0),
    "loud and off centre": made.speech(3.0) * 3 + np.float32(0.2),
    "faint": made.noise(1.0, 1e-4),
    "ten seconds": made.speech(10.0),
}


def opened(folder: Path | str, **options: Any) -> Emotion2vecEncoder:
    return Emotion2vecEncoder(str(folder), EncoderOptions(**options))


def funasr(folder: Path) -> Any:
    """The reference: FunASR's own front door."""
    with silenced():
        from funasr import AutoModel

        return AutoModel(model=str(folder), disable_update=True, disable_pbar=True, log_level="ERROR")


def generated(model: Any, signal: np.ndarray[Any, Any], granularity: str = "utterance") -> dict[str, Any]:
    with silenced():
        result: dict[str, Any] = model.generate(signal, granularity=granularity, extract_embedding=True)[0]
    return result


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    import yaml

    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    import torch

    checkpoint = torch.load(folder / "model.pt", weights_only=True)
    change(checkpoint["model"])
    torch.save(checkpoint, folder / "model.pt")
    return folder


def ingested(run: Run, folder: Path, at: Path, precision: str) -> tuple[Path, Path]:
    """An index of one made clip in that precision, which goes on in it without the option; and the clip."""
    index, clip = at / "index", made.save(at / "a.wav", made.speech(3.0))
    assert run("ingest", clip, "--index", index, "--encoder", folder, "--precision", precision).code == 0
    assert run("query", clip, "--index", index).code == 0
    return index, clip
