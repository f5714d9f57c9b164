"""An encoder for mteb's audio tasks: MAEB (arXiv 2602.16008), whose figures others can check. No collection is needed.

    >>> import mteb  # doctest: +SKIP
    >>> tasks = mteb.get_tasks(["CREMA_D", "IEMOCAPEmotion"])  # doctest: +SKIP
    >>> results = mteb.evaluate(E2vsearchEncoder("light"), tasks)  # doctest: +SKIP

``python benchmarks/maeb.py`` runs all emotion tasks that take audio alone. Install ``e2vsearch[mteb]`` and not
``mteb[audio]``, which brings torchaudio: resampling is done here, and so is decoding, after `leave_encoded`.

A collection is searched through a projection that is centred on it, without labels. Here there is no collection. mteb
encodes what it trains on and what it tests on in calls of their own, for pairs the left and the right sides, and
compares the vectors of different calls: centred on each call they would lie in different spaces, and a vector would
depend on its neighbours, which no other model in the table allows itself. So a projection is applied at rest, as the
encoder ships it, and figures are somewhat below those of a collection: `light` trained on CREMA-D alone has .600 mAP on
EMO-DB at rest and .642 centred (`e2vsearch.projections.network`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e2vsearch import audio
from e2vsearch.encoders import base, registry
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import AudioError, SettingsError, missing_extra
from e2vsearch.projections import network
from e2vsearch.projections.base import RAW, Projection

__all__ = ["E2vsearchEncoder", "leave_encoded"]
_LONGEST = int(base.MAX_SIGNAL_S * audio.SAMPLING_RATE_HZ)


class E2vsearchEncoder:
    """An e2vsearch encoder behind mteb's `EncoderProtocol`: audio in, one vector a clip out, compared by cosine.

    Clips are resampled to 16 kHz. Channels are averaged, as mteb's `AudioCollator` and the decoder of `datasets` do:
    a clip of MAEB is one voice, and figures stay comparable with those of other models. What is longer than 30 s is
    cut into equal parts of 30 s at most, whose vectors are averaged before the projection; what is shorter than the
    encoder takes, 0.025 s or so, is filled up with silence.
    """

    def __init__(
        self,
        encoder: str | Encoder = "light",
        *,
        projection: Literal["default", "raw"] = "default",
        training_datasets: Collection[str] | None = None,
    ) -> None:
        """Open the encoder.

        Args:
            encoder: its name or folder, as `e2vsearch.encoders.registry.open` takes it, or one that is open.
            projection: ``default``: the one that ships with the encoder, at rest; ``raw``: the encoder's own vectors.
            training_datasets: mteb's names of the tasks whose data it was trained on; None: not known.

        Raises:
            EncoderError, MissingExtra: as for `e2vsearch.encoders.registry.open`.
            SettingsError: there is no such projection, or none ships with the encoder.
        """
        if projection not in ("default", "raw"):
            raise SettingsError(f"projection must be default or raw, not {projection!r}")
        self._encoder = registry.open(encoder) if isinstance(encoder, str) else encoder
        self._projection = RAW if projection == "raw" else _at_rest(self._encoder)
        self._training_datasets = training_datasets

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,  # noqa: ARG002 - mteb's protocol
        **kwargs: Any,  # noqa: ARG002 - mteb's protocol
    ) -> NDArray[np.float32]:
        """Return one vector a clip, ``(n, dim)`` float32, each independent of the others.

        Args:
            inputs: batches; each has under ``audio`` a list of clips, ``{"array": (samples,) or (channels, samples),
                "sampling_rate": Hz}`` or encoded ones, ``{"bytes": bytes or None, "path": path}``.
            task_metadata: of the task, for messages.
            hf_split: of its data, for messages.
            hf_subset: of its data, for messages.
            prompt_type: for models of text; no matter here.
            **kwargs: ``batch_size`` and the like, which `inputs` has followed; no matter here.

        Raises:
            SettingsError: a batch without audio.
            AudioError: a clip that cannot be read.
        """
        made = [np.empty((0, self._projection.dim_out(self._encoder.space.dim)), np.float32)]
        place, count = f"{task_metadata.name}, {hf_subset}/{hf_split}", 0
        for batch in inputs:
            if "audio" not in batch:
                raise SettingsError(
                    f"{place}: has {', '.join(batch)} and no audio - choose tasks that take audio alone"
                )
            signals = []
            for clip in batch["audio"]:
                try:
                    signals.append(_signal(clip))
                except AudioError as error:
                    raise type(error)(f"{place}, clip {count + len(signals)}: {error}") from error
            made.append(self._projection.apply(self._vectors(signals)))
            count += len(signals)
        return np.concatenate(made)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosine of each with each, ``(n, m)``."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosine of each with its counterpart, ``(n,)``."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    @cached_property
    def mteb_model_meta(self) -> Any:
        """The `mteb.ModelMeta` of results: encoder and projection, and the revisions of both.

        Raises:
            MissingExtra: mteb is not installed.
        """
        try:
            from mteb.models import ModelMeta
        except ModuleNotFoundError as error:
            raise missing_extra("an encoder for mteb", "mteb") from error
        space, projection = self._encoder.space, self._projection
        return ModelMeta(
            loader=None,
            name=f"e2vsearch/{space.encoder}-{projection.name}",
            revision=f"{space.revision[:16]}-{projection.revision[:16]}",
            release_date=None,
            languages=None,
            n_parameters=None,
            memory_usage_mb=None,
            max_tokens=None,
            embed_dim=projection.dim_out(space.dim),
            license=None,
            open_weights=True,
            public_training_code=None,
            public_training_data=None,
            framework=[],
            similarity_fn_name="cosine",
            use_instructions=False,
            training_datasets=None if self._training_datasets is None else set(self._training_datasets),
            modalities=["audio"],
        )

    def _vectors(self, signals: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the mean of the vectors of each signal's parts, ``(n, dim)``."""
        parts = [_parts(signal, self._encoder.min_samples) for signal in signals]
        vectors = self._encoder.encode([part for each in parts for part in each]).vectors
        counts = np.array([len(each) for each in parts])
        sums = np.add.reduceat(vectors, np.cumsum(counts) - counts, axis=0)
        return np.asarray(sums / counts[:, None], np.float32)


def leave_encoded(task: Any) -> None:
    """Have the audio of a loaded mteb task reach the encoder as the files' bytes, to be decoded here.

    Otherwise `datasets` decodes it, with torchcodec and FFmpeg's libraries, which are installed by themselves.

    Raises:
        MissingExtra: mteb is not installed.
    """
    try:
        from datasets import Audio, DatasetDict
    except ModuleNotFoundError as error:
        raise missing_extra("reading mteb's data", "mteb") from error
    data = task.dataset
    for subset in [data] if isinstance(data, DatasetDict) else data.values():
        for split, table in subset.items():
            for name, feature in table.features.items():
                if isinstance(feature, Audio):
                    subset[split] = subset[split].cast_column(name, Audio(decode=False))


def _at_rest(encoder: Encoder) -> Projection:
    packed = encoder.projection()
    if packed is None:
        raise SettingsError(
            f"no projection ships with {encoder.space.encoder}, and one fitted to a collection has none here - "
            "take projection='raw'"
        )
    return network.unpack(packed)


def _signal(clip: Any) -> NDArray[np.float32]:
    """Return a clip as ``(samples,)`` at 16 kHz."""
    if isinstance(clip, Mapping) and "array" not in clip:
        read = audio.read(clip["path"] if clip["bytes"] is None else clip["bytes"])
    else:  # torchcodec's decoder has these two keys as well, and is no mapping
        read = audio.read(np.asarray(clip["array"]), sampling_rate_hz=int(clip["sampling_rate"]))
    mean: NDArray[np.float32] = read.mean(axis=0)
    return mean


def _parts(signal: NDArray[np.float32], least: int) -> list[NDArray[np.float32]]:
    """Return a signal as equal parts of 30 s at most, or filled up with silence to `least` samples."""
    if signal.size < least:
        return [np.pad(signal, (0, least - signal.size))]
    return np.array_split(signal, -(-signal.size // _LONGEST))
