"""emotion2vec through FunASR. Knows one network and how to open it, nothing of files, channels or storage.

The network (data2vec 2.0, audio branch) turns 16 kHz samples into one row every 20 ms; a vector is the mean of its
rows, not normalised, and the class scores are a linear head's softmax of that mean, exactly as `funasr.AutoModel`
gives them one clip at a time. Here clips run in batches, on a CPU one batch on each core with one thread, which wastes
nothing on waiting for the slower half of every product; a clip alone has all cores to itself.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.encoders import BF16, EMOTION2VEC_NAMES, Embeddings, Encoder, EncoderOptions, Head, Space
from e2vsearch.encoders import _emotion2vec_batches as batches
from e2vsearch.encoders import _emotion2vec_folder as folders
from e2vsearch.encoders import _emotion2vec_weights as weights
from e2vsearch.encoders._emotion2vec_loading import load
from e2vsearch.encoders._emotion2vec_network import Network
from e2vsearch.encoders._emotion2vec_quiet import threads
from e2vsearch.errors import BadSignal, BadWeights, missing_extra

__all__ = ["Emotion2vecEncoder"]

_UNNAMED = "emotion2vec"


class Emotion2vecEncoder(Encoder):
    """One of the published emotion2vec models, or a local folder of the same shape.

    `space.encoder` is the published name, also for a local folder that is called by it; any other folder is just
    "emotion2vec", so that a space outlives its folder's move and only the revision tells weights apart. `opened_by`
    is what opens the same weights again on this machine: the published name, or the folder's absolute path.

    Args:
        name: one of `EMOTION2VEC_NAMES`, or the path of a model folder.
        options: device, threads and precision. Neither threads nor what else is in a call change vectors of fp32 by
            more than 5e-6 (of a norm of 27); bf16 changes the third digit, and so is another space.

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
        self._pool: ThreadPoolExecutor | None = None
        module, tokens = _load(folder, options)
        config, audio = module.cfg, module.modality_encoders["AUDIO"]
        self._kept, labels = _labels(tokens, folder.path)
        settings = {
            "normalize": bool(config.normalize),
            "num_heads": int(config.num_heads),
            "num_alibi_heads": int(audio.modality_cfg.num_alibi_heads),
            "norm_eps": float(config.norm_eps),
            "layer_norm_first": bool(config.layer_norm_first),
            "strides": [layer[0].stride[0] for layer in audio.local_encoder.conv_layers],
        }
        revision = weights.fingerprint(module, settings)  # of the tensors as they came, before they are reordered
        if options.precision == "bf16":
            revision = f"{BF16}{revision}"[: len(revision)]
        self._network = Network(module, half=options.precision != "fp32")
        self.min_samples = self._network.min_samples
        self.frame_rate_hz = SAMPLING_RATE_HZ / self._network.hop

        self.opened_by = name if published else str(folder.path)
        self.space = Space(
            encoder=name if published else folder.path.name if folder.path.name in EMOTION2VEC_NAMES else _UNNAMED,
            revision=revision,
            dim=int(config.embed_dim),
            labels=labels,
        )

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        frames = [self._network.frames_of(signal.size) for signal in signals]
        on_cpu = self._network.device.type == "cpu"
        cores = self._cores() if on_cpu else 1
        budget = batches.CPU_BUDGET if on_cpu else batches.GPU_BUDGET
        plan = batches.plan(frames, budget if self._network.batched else 0, cores)
        with self._lock:
            if cores > 1 and len(plan) > 1:
                parts = list(self._workers(cores).map(lambda batch: self._pooled(signals, batch), plan))
            else:
                with threads(self._threads):
                    parts = [self._pooled(signals, batch) for batch in plan]
            # last, so that a GPU is not waited for between batches
            vectors, scores = (_in_order(plan, [part[which] for part in parts]) for which in (0, 1))
        assert vectors is not None
        return Embeddings(vectors, scores)

    def _frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with self._lock, threads(self._threads), torch.inference_mode():
            frames: NDArray[np.float32] = self._network.run([signal])[0].cpu().numpy()
        return frames

    def _pooled(self, signals: Sequence[NDArray[np.float32]], batch: Sequence[int]) -> tuple[Any, Any]:
        """Vectors and scores of one batch, tensors ``(n, dim)`` and ``(n, labels)``, None without a head."""
        import torch

        with torch.inference_mode():
            clips = self._network.run([signals[position] for position in batch])
            vectors = torch.stack([clip.mean(dim=0) for clip in clips])
            head = self._network.module.proj
            return vectors, None if head is None else torch.softmax(head(vectors)[:, self._kept], dim=-1)

    def _cores(self) -> int:
        import torch

        return self._threads or int(torch.get_num_threads())

    def _workers(self, cores: int) -> ThreadPoolExecutor:
        """Threads that each compute with one thread of torch, made once.

        `torch.set_num_threads` is about the calling thread and about threads that have not used torch yet, so that the
        latter is put back once all workers are there.
        """
        if self._pool is None:
            import torch

            before, started = torch.get_num_threads(), threading.Barrier(cores + 1)

            def start() -> None:
                torch.set_num_threads(1)
                started.wait()

            self._pool = ThreadPoolExecutor(cores, "emotion2vec")
            for _ in range(cores):
                self._pool.submit(start)
            started.wait()
            torch.set_num_threads(before)
        return self._pool

    def head(self) -> Head | None:
        """The rows of the network's ``proj`` layer that are in use."""
        head = self._network.module.proj
        if head is None:
            return None
        weights, biases = (each.detach().cpu().numpy()[self._kept] for each in (head.weight, head.bias))
        return Head(weights.astype("float32"), biases.astype("float32"))

    def _check(self, signal: NDArray[np.float32]) -> None:
        super()._check(signal)
        if signal.min() == signal.max():
            raise BadSignal("the signal is digital silence, which has a vector like any other but no emotion; skip it")


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
    return load(folder, options)


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


def _in_order(plan: Sequence[Sequence[int]], parts: Sequence[Any]) -> NDArray[np.float32] | None:
    """Rows of batches in the order of the signals; None if the parts are."""
    if parts[0] is None:
        return None
    rows = np.concatenate([part.cpu().numpy() for part in parts])
    out = np.empty_like(rows)
    out[np.concatenate(plan)] = rows
    return out
