"""Speech encoders of transformers as an encoder of e2vsearch: wav2vec 2.0, HuBERT, WavLM and their like."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.encoders.base import Embeddings, Encoder, EncoderOptions
from e2vsearch.errors import EncoderUnavailable
from e2vsearch.types import Space

API_VERSION = 1
"""The version of e2vsearch's plug-in interface that this is written for."""

MODEL = "E2VSEARCH_HF_MODEL"
DEFAULT = "microsoft/wavlm-base-plus"


class HuggingFaceEncoder(Encoder):
    """The mean over time of a model's last layer; a signal is scaled to mean 0 and variance 1 first."""

    def __init__(self, model: Any, device: str = "cpu") -> None:
        """Take a model that maps ``(1, samples)`` to hidden states ``(1, frames, dim)``."""
        self._device = device
        self._model = model.eval().to(device)
        digest = sha256()
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        # the revision is of all that a vector depends on: another one is another space
        self.space = Space("hf", digest.hexdigest(), int(model.config.hidden_size), ())

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        return Embeddings(np.stack([self._frames(signal).mean(axis=0) for signal in signals]))

    def _frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        scaled = (signal - signal.mean()) / np.sqrt(signal.var() + 1e-7)
        with torch.inference_mode():  # one signal at a time: padding would make its vector depend on its neighbours
            states = self._model(torch.from_numpy(scaled)[None].to(self._device)).last_hidden_state
        frames: NDArray[np.float32] = states[0].float().cpu().numpy()
        return frames


def open_encoder(options: EncoderOptions) -> HuggingFaceEncoder:
    """Return the encoder of the model that the environment names.

    Raises:
        EncoderUnavailable: there is no such model.
    """
    from transformers import AutoModel

    name = os.environ.get(MODEL, DEFAULT)
    try:
        model = AutoModel.from_pretrained(name)
    except OSError as error:
        why = str(error).partition("\n")[0]
        raise EncoderUnavailable(f"{name} cannot be loaded ({why}) - name a model or its folder in {MODEL}") from error
    return HuggingFaceEncoder(model, options.device)
