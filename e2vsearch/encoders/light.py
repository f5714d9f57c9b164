"""The encoder that ships in the wheel: six acted emotions, 576 numbers, no torch, no download.

Whisper-tiny.en's stem and first three blocks, tuned, and a head, trained on CREMA-D and EMO-DB for likeness of emotion
across voices (`training/README.md`; data, licences, figures and limits in `data/light.json`). An utterance's vector is

    mel picture, speech at one level → frames (50 Hz) of three blocks, context 4 s at most → mean and deviation over
    time → first layers of the head, less what the deviations of the picture's bands tell of the voice (512)
    mel picture → mean and deviation over time → what tells voices apart, a hundredth as long (64)

and its scores are what the whole head makes of it. All of the head but its first layers is also the projection that
ships with the encoder, through which a collection of such vectors is compared, centred on itself and on the voices
that it tells apart (`e2vsearch.projections.network`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.encoders import mel
from e2vsearch.encoders.base import LIGHT_CARD, Embeddings, Encoder, EncoderOptions
from e2vsearch.errors import BadWeights
from e2vsearch.types import Space

__all__ = ["CEILING_HZ", "SPEECH_LEVEL", "LightEncoder", "feed", "levelled", "picture", "session"]
FORMAT = "light-3"
"""What the weights file does not say: the front end. To be raised whenever `picture` or a pooling changes a vector."""

CEILING_HZ = 5500.0
"""Where the copies of CREMA-D and EMO-DB end: nothing was learned of what lies above, so none of it is shown."""

SPEECH_LEVEL = 1.0
"""Log10 of the mean power of speech that every picture is set to. How loud a clip is says more of its microphone than
of its speaker: in CREMA-D anger is 17 dB louder than sadness, in EMO-DB, whose clips have one peak, no louder at all.
A head that had learned from loudness lost .02 mAP to it there, and unseen voices of CREMA-D lose nothing without it."""

_STRIDE = 2  # mel frames to one frame of the network
_FRAME_WINDOW = 50  # network frames: 1 s, about the shortest clip that the head was trained on (1.5 to 5 s)
_Pooling = Callable[[int], NDArray[np.float32]]  # frames → (rows, frames): how much of each a row pools, 1 in all


class LightEncoder(Encoder):
    """emotion2vec's stand-in where nothing can be installed or downloaded; see the card for its limits.

    Scores are calibrated on raters' judgements, under a prior of conversation (`projections.prior.conversation`).
    The same signal gives the same bits on the same machine, whatever else is in the call;
    other CPUs differ in the last digits (int8 kernels round differently). Safe to share between threads.
    """

    frame_rate_hz = mel.RATE_HZ / _STRIDE
    min_samples = mel.MIN_SAMPLES

    def __init__(self, options: EncoderOptions, folder: Path | None = None) -> None:
        """Load weights: those that ship with the package, or others that were trained as they were.

        Args:
            options: `threads` for one signal; 0 is one, since recordings run side by side. `device` is always "cpu".
            folder: of ``light.onnx``, ``light.npz`` and their card ``light.json``; None: the shipped ones.

        Raises:
            BadWeights: the files are damaged.
        """
        card, weights, self._projection = _shipped() if folder is None else _read(folder, "train them again")
        if folder is not None:
            self.opened_by = str(folder.resolve())
        self._session = session(weights, max(1, options.threads))
        self.space = Space(
            encoder="light",
            revision=hashlib.sha256(FORMAT.encode() + weights).hexdigest(),
            dim=int(card["dim"]),
            labels=tuple(card["labels"]),
        )

    def projection(self) -> bytes:
        """Return what a collection compares its vectors by."""
        return self._projection

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        # one by one: padding to a common length would let a signal's neighbours into its vector
        rows = [self._run(signal) for signal in signals]
        return Embeddings(np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows]))

    def _frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Row t is the vector of the second around t, in the context of up to 4 s."""
        return self._run(signal, _moving)[0]

    def _run(
        self, signal: NDArray[np.float32], pooling: _Pooling | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        vectors, scores = self._session.run(["vectors", "scores"], feed(picture(signal), pooling))
        return vectors, scores


def picture(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the network's input of ``(samples,)`` at 16 kHz, in training and in use: ``(80, samples // 160)``."""
    return levelled(mel.decades(signal, CEILING_HZ))


def levelled(decades: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the picture of log10 powers ``(80, frames)``, its speech set to one level."""
    return mel.scaled(decades + np.float32(SPEECH_LEVEL - mel.speech_level(decades)))


def feed(seen: NDArray[np.float32], pooling: _Pooling | None = None) -> dict[str, NDArray[np.float32]]:
    """Return what the graph takes, in training and in use: a picture ``(80, frames)``, and what of it each row pools.

    Args:
        seen: as `picture` makes it.
        pooling: from the network's frames to ``(rows, frames)``; None: one row of equal shares.
    """
    return {"mel": seen[None], "pooling": (pooling or _whole)(-(-seen.shape[1] // _STRIDE))}


def _whole(frames: int) -> NDArray[np.float32]:
    return np.full((1, frames), 1.0 / frames, np.float32)


def _moving(frames: int) -> NDArray[np.float32]:
    steps = np.arange(frames)
    near = np.abs(steps[:, None] - steps[None]) <= _FRAME_WINDOW // 2
    return np.asarray(near / near.sum(axis=1, keepdims=True), np.float32)


def _shipped() -> tuple[dict[str, Any], bytes, bytes]:
    return _read(resources.files("e2vsearch.encoders") / "data", "reinstall e2vsearch")


def _read(folder: Traversable, cure: str) -> tuple[dict[str, Any], bytes, bytes]:
    """Return the card, and the weights and the projection that it describes."""
    try:
        card = json.loads((folder / LIGHT_CARD).read_text(encoding="utf-8"))
        files = {name: (folder / name).read_bytes() for name in ("light.onnx", "light.npz")}
        described = {"light.onnx": card["sha256"], "light.npz": card["projection_sha256"]}
        _ = int(card["dim"]), tuple(card["labels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadWeights(f"the light encoder's files in {folder} cannot be read; {cure}") from error
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != described[name]:
            raise BadWeights(f"{name} in {folder} is not the file that {LIGHT_CARD} describes; {cure}")
    return card, files["light.onnx"], files["light.npz"]


def session(weights: bytes, threads: int) -> Any:
    """Return an onnxruntime session of a graph that takes `feed`, in training and in use.

    Raises:
        BadWeights: onnxruntime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise BadWeights(
            f"onnxruntime {onnxruntime.__version__} cannot load light.onnx; upgrade onnxruntime"
        ) from error
