"""A checkpoint and the network it must fill. Knows tensors and their names, nothing of sound.

FunASR starts from random numbers and copies over whatever it finds in the checkpoint under the right name and of the
right shape; what it does not find stays random, with a line on stdout at most. Here what is not found is an error.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from e2vsearch.encoders._emotion2vec_folder import first_line
from e2vsearch.errors import BadWeights

_DECODER = "modality_encoders.AUDIO.decoder."
"""Of pre-training only: published checkpoints hold no such tensor, and no vector comes near it."""

_FORMAT = "emotion2vec-1"
"""What a fingerprint is made of; a new tag makes all earlier ones another space."""


def read(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint by name, mapped from the file rather than read where its format allows.

    Raises:
        BadWeights: not a PyTorch checkpoint, or a damaged one.
    """
    import torch

    try:
        with path.open("rb") as file:
            mapped = file.read(4) == b"PK\3\4"  # torch's format since 1.6, a zip archive; older ones cannot be mapped
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise BadWeights(f"{path} is not a whole PyTorch checkpoint; copy it again ({first_line(error)})") from error
    for wrapping in ("state_dict", "model_state_dict", "model"):  # in this order by FunASR's load_pretrained_model
        if isinstance(state, dict) and wrapping in state:
            state = state[wrapping]
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise BadWeights(f"{path} holds no named tensors, so it is not an emotion2vec checkpoint")
    return {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}


def matched(
    wanted: Mapping[str, Any], checkpoint: Mapping[str, Any], scope_map: object, excludes: object, path: Path
) -> dict[str, Any]:
    """Each tensor that a vector depends on, as it is in the checkpoint.

    Args:
        wanted: what `inference_tensors` gives; their shapes count, values they need not have.
        checkpoint: what `read` gave.
        scope_map: of config.yaml: prefixes in the checkpoint and in the network by turns, "none" for nothing.
        excludes: of config.yaml: prefixes of tensors that FunASR leaves as they are, random.
        path: the checkpoint, for messages.

    Raises:
        BadWeights: some are not there in the shape wanted, or are not finite.
    """
    import torch

    scopes, left_out = _scopes(scope_map), tuple(_listed(excludes))
    found = {}
    missing = []
    for name, tensor in wanted.items():
        keys = [key for key in _names_in_checkpoint(name, scopes) if key in checkpoint]
        source = checkpoint[keys[-1]] if keys else None  # of several FunASR takes the last
        if source is None or source.shape != tensor.shape or name.startswith(left_out):
            missing.append(name)
        elif not torch.isfinite(source).all():
            raise BadWeights(f"{path}: {name} has values that are not finite; copy the checkpoint again")
        else:
            found[name] = source
    if missing:
        raise BadWeights(
            f"{path} does not fill its network: {len(missing)} of {len(wanted)} tensors are missing, the first is "
            f"{missing[0]} {_why(missing[0], wanted[missing[0]], checkpoint, scopes, left_out)}"
        )
    return found


def check_whole(tensors: Mapping[str, Any], parts: Collection[tuple[int, int]], path: Path) -> None:
    """See that tensors are as they were saved, which torch does not look at: files rot, and downloads are resumed.

    Args:
        tensors: as `read` gave them.
        parts: size in bytes and CRC-32 of each part of the checkpoint, as its archive lists them.
        path: the checkpoint, for messages.

    Raises:
        BadWeights: one of them is not.
    """
    import torch

    seen = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            values = torch.empty(0, dtype=torch.uint8).set_(storage)
            seen[storage.data_ptr()] = (storage.nbytes(), checksum(values)) in parts
        if not seen[storage.data_ptr()]:
            raise BadWeights(f"{path} is damaged: {name} is not as it was saved, by its checksum; copy it again")


def checksum(tensor: Any) -> int:
    """CRC-32 of a tensor's values: 2 GB/s, where SHA-256 takes 0.9 (one core of a Xeon with SHA instructions)."""
    import torch

    return zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def fingerprint(tensors: Iterable[tuple[str, Any]], settings: Mapping[str, Any]) -> str:
    """SHA-256 over the loaded tensors that vectors depend on, and over settings that no tensor's shape shows.

    The same for any file layout: neither names in the checkpoint, nor copies of an optimizer, nor a decoder count.
    `tensors` are what `inference_tensors` gives, in its order.
    """
    import torch

    digest = hashlib.sha256(f"{_FORMAT}\n{json.dumps(settings, sort_keys=True)}\n".encode())
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def inference_tensors(network: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor of a network but its decoder's, by name."""
    for name, tensor in sorted(network.state_dict().items()):
        if not name.startswith(_DECODER):
            yield name, tensor


def _scopes(scope_map: object) -> list[tuple[str, str]]:
    texts = ["" if part.lower() == "none" else part for part in (*_listed(scope_map), "module.", "none")]
    return list(zip(texts[::2], texts[1::2], strict=False))


def _listed(given: object) -> list[str]:
    """A list in config.yaml, which FunASR also takes as text with commas."""
    if isinstance(given, str):
        return given.split(",")
    return [str(part) for part in given] if isinstance(given, list | tuple) else []


def _names_in_checkpoint(name: str, scopes: Sequence[tuple[str, str]]) -> list[str]:
    """Under which names FunASR looks for a tensor of the network."""
    return [name, *(source + name.removeprefix(target) for source, target in scopes if name.startswith(target))]


def _why(
    name: str,
    tensor: Any,
    checkpoint: Mapping[str, Any],
    scopes: Sequence[tuple[str, str]],
    left_out: tuple[str, ...],
) -> str:
    if name.startswith(left_out):
        return "(config.yaml excludes it)"
    for key in _names_in_checkpoint(name, scopes):
        if key in checkpoint:
            return f"({tuple(tensor.shape)} by config.yaml, {tuple(checkpoint[key].shape)} in the checkpoint)"
    # the shortest: blocks.0 of the context encoder ends like blocks.0 itself
    named_longer = min((key for key in checkpoint if key.endswith(f".{name}")), key=len, default=None)
    if named_longer:
        prefix = named_longer.removesuffix(name)
        return f"(there as {named_longer}: config.yaml needs scope_map: ['{prefix}', none])"
    return "(config.yaml and checkpoint are of different models)"
