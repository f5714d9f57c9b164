"""emotion2vec through FunASR. Knows one network and how to open it, nothing of files, channels or storage.

The network (data2vec 2.0, audio branch) turns 16 kHz samples into one row every 20 ms; a vector is the mean of its
rows, not normalised, and the class scores are a linear head's softmax of that mean, exactly as `funasr.AutoModel`
gives them one clip at a time. `AutoModel` builds the network and is let go: its `generate` rewrites its own settings
on every call, and so cannot be shared by threads.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.encoders import EMOTION2VEC_NAMES, MAX_SIGNAL_S, Embeddings, Encoder, EncoderOptions, Head, Space
from e2vsearch.encoders import _emotion2vec_folder as folders
from e2vsearch.encoders import _emotion2vec_weights as weights
from e2vsearch.encoders._emotion2vec_quiet import threads, undisturbed
from e2vsearch.errors import BadSignal, BadWeights, EncoderUnavailable, missing_extra

__all__ = ["Emotion2vecEncoder"]

_UNNAMED = "emotion2vec"


class Emotion2vecEncoder(Encoder):
    """One of the published emotion2vec models, or a local folder of the same shape.

    `space.encoder` is the published name, also for a local folder that is called by it; any other folder is just
    "emotion2vec", so that a space outlives its folder's move and only the revision tells weights apart. `opened_by`
    is what opens the same weights again on this machine: the published name, or the folder's absolute path.

    Args:
        name: one of `EMOTION2VEC_NAMES`, or the path of a model folder.
        options: device and threads; the number of threads changes vectors by less than 1e-6.

    Raises:
        MissingExtra: torch or FunASR is not installed.
        EncoderUnavailable: no weights to be had, or no such device.
        BadWeights: the weights do not fill their network, or the folder is not whole.
    """

    def __init__(self, name: str, options: EncoderOptions) -> None:
        _require_packages()
        published = name in EMOTION2VEC_NAMES
        folder = folders.fetch(name) if published else folders.read(Path(name).resolve())
        self._lock = threading.Lock()
        self._threads = options.threads
        self._network, tokens = _load(folder, options)
        self._device = next(self._network.parameters()).device
        self._normalize = bool(self._network.cfg.normalize)
        self._kept, labels = _labels(tokens, folder.path)

        config = self._network.cfg
        audio = self._network.modality_encoders["AUDIO"]
        convolutions = [(layer[0].kernel_size[0], layer[0].stride[0]) for layer in audio.local_encoder.conv_layers]
        strides = [stride for _, stride in convolutions]
        self.min_samples = 1 + sum((kernel - 1) * prod(strides[:i]) for i, (kernel, _) in enumerate(convolutions))
        self.frame_rate_hz = SAMPLING_RATE_HZ / prod(strides)
        self._alibi_limit = int(audio.modality_cfg.num_alibi_heads * (MAX_SIGNAL_S * self.frame_rate_hz) ** 2)

        self.opened_by = name if published else str(folder.path)
        self.space = Space(
            encoder=name if published else folder.path.name if folder.path.name in EMOTION2VEC_NAMES else _UNNAMED,
            revision=weights.fingerprint(
                self._network,
                {
                    "normalize": self._normalize,
                    "num_heads": int(config.num_heads),
                    "num_alibi_heads": int(audio.modality_cfg.num_alibi_heads),
                    "norm_eps": float(config.norm_eps),
                    "layer_norm_first": bool(config.layer_norm_first),
                    "strides": strides,
                },
            ),
            dim=int(config.embed_dim),
            labels=labels,
        )

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        import torch

        head = self._network.proj
        vectors, scores = [], []
        with self._lock, threads(self._threads), torch.inference_mode():
            for signal in signals:
                vector = self._forward(signal).mean(dim=0)
                vectors.append(vector.cpu().numpy())
                if head is not None:
                    scores.append(torch.softmax(head(vector)[self._kept], dim=-1).cpu().numpy())
        return Embeddings(np.stack(vectors), np.stack(scores) if scores else None)

    def _frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with self._lock, threads(self._threads), torch.inference_mode():
            frames: NDArray[np.float32] = self._forward(signal).cpu().numpy()
        return frames

    def head(self) -> Head | None:
        """The rows of the network's ``proj`` layer that are in use."""
        head = self._network.proj
        if head is None:
            return None
        weights, biases = (each.detach().cpu().numpy()[self._kept] for each in (head.weight, head.bias))
        return Head(weights.astype("float32"), biases.astype("float32"))

    def _check(self, signal: NDArray[np.float32]) -> None:
        super()._check(signal)
        if signal.min() == signal.max():
            raise BadSignal("the signal is digital silence, which has a vector like any other but no emotion; skip it")

    def _forward(self, signal: NDArray[np.float32]) -> Any:
        """The network's last layer, a tensor ``(frames, dim)``. Not for two threads at a time."""
        import torch

        source = torch.from_numpy(np.array(signal)).to(self._device)  # a copy: torch warns of read-only memory
        if self._normalize:
            source = torch.nn.functional.layer_norm(source, source.shape)
        frames = self._network.extract_features(source[None], padding_mask=None)["x"][0]
        # FunASR keeps the attention bias of the longest call there was, heads x frames x frames, and never lets go:
        # 144 MB for 30 s of plus_large, 14.4 GB for five minutes
        biases = self._network.alibi_biases
        if sum(bias.numel() for bias in biases.values()) > self._alibi_limit:
            biases.clear()
        return frames


def _require_packages() -> None:
    for package in ("torch", "funasr"):
        try:
            found = importlib.util.find_spec(package) is not None
        except ValueError:  # an entry in sys.modules that is not a module
            found = False
        if not found:
            raise missing_extra("the emotion2vec encoder", "emotion2vec")


def _load(folder: folders.ModelFolder, options: EncoderOptions) -> tuple[Any, list[str] | None]:
    """FunASR's network, filled, checked and without its decoder, and the lines of its tokens.txt."""
    with undisturbed():
        import torch

        try:
            importlib.import_module("funasr.models.emotion2vec.model")  # FunASR would hide why this cannot be imported
            from funasr import AutoModel
        except (ImportError, OSError) as error:
            raise EncoderUnavailable(
                f"FunASR is installed but cannot be imported: {folders.first_line(error)}; "
                "pip install 'e2vsearch[emotion2vec]' setuptools, and uninstall torchaudio"
            ) from error
        try:
            device = torch.device(options.device)
        except RuntimeError as error:
            raise EncoderUnavailable(
                f"torch knows no device called {options.device!r}; use cpu, cuda or mps"
            ) from error
        checkpoint = weights.read(folder.checkpoint)
        try:
            model = AutoModel(
                model=str(folder.path),
                init_param=str(folder.checkpoint),
                device=str(device),
                ncpu=options.threads or torch.get_num_threads(),
                disable_update=True,
                disable_pbar=True,
                log_level="WARNING",  # for other threads meanwhile: what this one logs is dropped
                trust_remote_code=False,  # said here, config.yaml cannot say otherwise
                fp16=False,
                bf16=False,
            )
        except Exception as error:
            raise BadWeights(
                f"FunASR cannot open {folder.path}: {type(error).__name__}: {folders.first_line(error)}"
            ) from error
        network, tokenizer = model.model, model.kwargs.get("tokenizer")
        if next(network.parameters()).device.type != device.type:
            raise EncoderUnavailable(f"torch has no usable {device.type} device here; use --device cpu")
        tokens = getattr(tokenizer, "token_list", None)
        if tokenizer is not None and tokens is None:
            raise BadWeights(f"{folder.path} has no tokens.txt, which names the classes; copy it again")
        weights.check_filled(network, checkpoint, folder.config.get("scope_map"), folder.checkpoint)
        network.modality_encoders["AUDIO"].decoder = None
    return network, tokens


def _labels(tokens: list[str] | None, path: Path) -> tuple[list[int], tuple[str, ...]]:
    """Which outputs of the head count, and their names in English: FunASR drops lines that start with "unuse"."""
    kept = [index for index, token in enumerate(tokens or []) if not token.startswith("unuse")]
    names = [_english(tokens[index]) for index in kept] if tokens else []
    if "" in names or len(set(names)) < len(names):
        raise BadWeights(f"{path}: tokens.txt must name each class once, one a line, but reads {', '.join(names)}")
    return kept, tuple(names)


def _english(token: str) -> str:
    """The canonical name of a class: ``生气/angry`` is "angry", ``<unk>`` is "unknown"."""
    name = token.rsplit("/", 1)[-1].strip().lower()
    return "unknown" if name == "<unk>" else name
