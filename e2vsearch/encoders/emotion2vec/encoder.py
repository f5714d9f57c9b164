"""The emotion2vec encoder: FunASR's network, computed in batches.

The network (data2vec 2.0, audio branch) turns 16 kHz samples into one row every 20 ms; a vector is the mean of its
rows, not normalised, and the class scores are a linear head's softmax of that mean, exactly as `funasr.AutoModel`
gives them one clip at a time. Here clips run in batches, on a CPU one batch on each core with one thread, which wastes
nothing on waiting for the slower half of every product; a clip alone has all cores to itself.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.encoders.base import EMOTION2VEC_NAMES, Embeddings, Encoder, EncoderOptions, in_precision
from e2vsearch.encoders.batcher import Batcher, embeddings
from e2vsearch.encoders.emotion2vec import checkpoint as weights
from e2vsearch.encoders.emotion2vec import model_folder as folders
from e2vsearch.encoders.emotion2vec.batch_plan import CPU_BUDGET, GPU_BUDGET, plan_batches
from e2vsearch.encoders.emotion2vec.loader import load
from e2vsearch.encoders.emotion2vec.network import Network
from e2vsearch.errors import BadSignal, BadWeights, missing_extra
from e2vsearch.types import Head, Space

_log = logging.getLogger(__name__)
_UNNAMED = "emotion2vec"
_CALLS_A_CORE = 4
"""One that is computed, and others to be decoded meanwhile and to share the next batch: of recordings of one short clip
each, two on two cores leave the encoder waiting a third of the time."""

_CALLS_A_GPU = 64
"""A batch of 70 clips of 6 s is what a GPU takes at a time."""

_Row = tuple[NDArray[np.float32], NDArray[np.float32] | None]


class Emotion2vecEncoder(Encoder):
    """One of the published emotion2vec models, or a local folder of the same shape.

    `space.encoder` is the published name, also for a local folder that is called by it; any other folder is just
    "emotion2vec", so that a space outlives its folder's move and only the revision tells weights apart. `opened_by`
    is what opens the same weights again on this machine: the published name, or the folder's absolute path.

    Args:
        name: one of `EMOTION2VEC_NAMES`, or the path of a model folder.
        options: device, threads and precision. Neither threads nor what else is in a call change vectors of fp32 by
            more than 5e-6 (of a norm of 27), nor does what else is in a call change those of int8 at all; bf16 changes
            the third digit and int8 the second, so that each is a space of its own.

    Raises:
        MissingExtra: torch or FunASR is not installed.
        EncoderUnavailable: no weights to be had, or no such device.
        BadWeights: the weights do not fill their network, or the folder is not whole.
    """

    def __init__(self, name: str, options: EncoderOptions) -> None:
        _require_packages()
        published = name in EMOTION2VEC_NAMES
        folder = folders.fetch(name) if published else folders.read(Path(name).resolve())
        self._lock = threading.Lock()  # torch's thread count is changed by one at a time
        self._threads = options.threads
        module, tokens = load(folder, options)
        config, audio = module.cfg, module.modality_encoders["AUDIO"]
        self._kept, labels = _labels(tokens, folder.path)
        if module.proj is None:
            _log.warning(
                "%s was not tuned on emotions and has no classes: clips of different emotions have cosines above 0.93 "
                "(ddlBoJack/emotion2vec issue 66) - for search take a plus model, such as emotion2vec_plus_large",
                name if published else folder.path,
            )
        settings = {
            "normalize": bool(config.normalize),
            "num_heads": int(config.num_heads),
            "num_alibi_heads": int(audio.modality_cfg.num_alibi_heads),
            "norm_eps": float(config.norm_eps),
            "layer_norm_first": bool(config.layer_norm_first),
            "strides": [layer[0].stride[0] for layer in audio.local_encoder.conv_layers],
        }
        as_they_came = list(weights.inference_tensors(module))  # before they are reordered
        with ThreadPoolExecutor(1) as beside:
            hashed = beside.submit(weights.fingerprint, as_they_came, settings)
            del as_they_came
            with _threads(1):  # a second one would spin more than it reorders, and the hash needs its core
                self._network = Network(module, precision=options.precision)
            revision = in_precision(hashed.result(), options.precision)
        del hashed
        self.min_samples = self._network.min_samples
        self.frame_rate_hz = SAMPLING_RATE_HZ / self._network.hop
        self.blocks = self._network.blocks
        on_cpu, on_cuda = (self._network.device.type == kind for kind in ("cpu", "cuda"))
        budget = (CPU_BUDGET if on_cpu else GPU_BUDGET) if self._network.batched else 0
        # a batch on each core; two by turns on a GPU, so that it need not wait for its samples
        count = self._cores() if on_cpu else 2 if on_cuda else 1
        self._batcher: Batcher[_Row] = Batcher(
            self._pooled,
            partial(plan_batches, budget=budget, shares=count if on_cpu else 1),
            alone=self._alone,
            threads=count,
            pool=_single_threaded,
        )
        self.calls_at_once = _CALLS_A_CORE * self._cores() if on_cpu else _CALLS_A_GPU
        self.opened_by = name if published else str(folder.path)
        self.space = Space(
            encoder=name if published else folder.path.name if folder.path.name in EMOTION2VEC_NAMES else _UNNAMED,
            revision=revision,
            dim=int(config.embed_dim),
            labels=labels,
        )

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        return embeddings(self._batcher.run(signals, [self._network.frames_of(signal.size) for signal in signals]))

    def _frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with self._lock, _threads(self._threads), torch.inference_mode():
            frames: NDArray[np.float32] = self._network.run([signal])[0].cpu().numpy()
        return frames

    def _layers(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with self._lock, _threads(self._threads), torch.inference_mode():
            rows: NDArray[np.float32] = self._network.layers(signal).cpu().numpy()
        return rows

    def _cores(self) -> int:
        import torch

        return self._threads or int(torch.get_num_threads())

    def _alone(self, signals: Sequence[NDArray[np.float32]]) -> list[_Row]:
        with self._lock, _threads(self._threads):
            return self._pooled(signals)

    def _pooled(self, signals: Sequence[NDArray[np.float32]]) -> list[_Row]:
        """Return vector ``(dim,)`` and scores ``(labels,)`` of each clip of a batch; no scores without a head."""
        import torch

        with torch.inference_mode():
            vectors = torch.stack([clip.mean(dim=0) for clip in self._network.run(signals)])
            head = self._network.module.proj
            scores = None if head is None else torch.softmax(head(vectors)[:, self._kept], dim=-1).cpu().numpy()
            return list(zip(vectors.cpu().numpy(), [None] * len(vectors) if scores is None else scores, strict=True))

    def head(self) -> Head | None:
        """Return the rows of the network's ``proj`` layer that are in use."""
        head = self._network.module.proj
        if head is None:
            return None
        weights, biases = (each.detach().cpu().numpy()[self._kept] for each in (head.weight, head.bias))
        return Head(weights.astype("float32"), biases.astype("float32"))

    def _check(self, signal: NDArray[np.float32]) -> None:
        super()._check(signal)
        if signal.min() == signal.max():
            raise BadSignal("the signal is digital silence, which has a vector like any other but no emotion; skip it")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Have torch compute with `count` threads inside, 0 for what it has been using."""
    import torch

    before = torch.get_num_threads()
    if count < 1 or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _single_threaded(count: int) -> ThreadPoolExecutor:
    """Return a pool whose threads are there already, each computing with one thread of torch.

    `torch.set_num_threads` is about the calling thread and about threads that have not used torch yet, so that the
    latter is put back once all are there.
    """
    import torch

    before, started = torch.get_num_threads(), threading.Barrier(count + 1)

    def start() -> None:
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(count, "emotion2vec")
    for _ in range(count):
        pool.submit(start)
    started.wait()
    torch.set_num_threads(before)
    return pool


def _require_packages() -> None:
    for package in ("torch", "funasr"):
        try:
            found = importlib.util.find_spec(package) is not None
        except ValueError:  # an entry in sys.modules that is not a module
            found = False
        if not found:
            raise missing_extra("the emotion2vec encoder", "emotion2vec")


def _labels(tokens: list[str] | None, path: Path) -> tuple[list[int], tuple[str, ...]]:
    """Return which outputs of the head count, and their English names: FunASR drops lines that start with "unuse"."""
    kept = [index for index, token in enumerate(tokens or []) if not token.startswith("unuse")]
    names = [_english(tokens[index]) for index in kept] if tokens else []
    if "" in names or len(set(names)) < len(names):
        raise BadWeights(f"{path}: tokens.txt must name each class once, one a line, but reads {', '.join(names)}")
    return kept, tuple(names)


def _english(token: str) -> str:
    """Return the canonical name of a class: ``生气/angry`` is "angry", ``<unk>`` is "unknown"."""
    name = token.rsplit("/", 1)[-1].strip().lower()
    return "unknown" if name == "<unk>" else name
