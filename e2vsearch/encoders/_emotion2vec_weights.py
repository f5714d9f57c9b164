"""A checkpoint and the network it must fill. Knows tensors and their names, nothing of sound.

FunASR starts from random numbers and copies over whatever it finds in the checkpoint under the right name and of the
right shape; what it does not find stays random, with a line on stdout at most. So every tensor is compared afterwards.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
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


def check_filled(network: Any, checkpoint: Mapping[str, Any], scope_map: object, path: Path) -> None:
    """Makes sure that every tensor a vector depends on came from the checkpoint.

    Args:
        network: FunASR's module after loading.
        checkpoint: what `read` gave.
        scope_map: of config.yaml: prefixes in the checkpoint and in the network by turns, "none" for nothing.
        path: the checkpoint, for messages.

    Raises:
        BadWeights: some did not, or are not finite.
    """
    import torch

    wanted = dict(_inference_tensors(network))
    scopes = _scopes(scope_map)
    missing = []
    for name, tensor in wanted.items():
        found = [checkpoint[key] for key in _names_in_checkpoint(name, scopes) if key in checkpoint]
        if not any(_same(tensor, source) for source in found):
            if any(source.shape == tensor.shape and not torch.isfinite(source).all() for source in found):
                raise BadWeights(f"{path}: {name} has values that are not finite; copy the checkpoint again")
            missing.append(name)
    if missing:
        raise BadWeights(
            f"{path} does not fill its network: {len(missing)} of {len(wanted)} tensors are missing, the first is "
            f"{missing[0]} {_why(missing[0], wanted[missing[0]], checkpoint, scopes)}"
        )


def fingerprint(network: Any, settings: Mapping[str, Any]) -> str:
    """SHA-256 over the loaded tensors that vectors depend on, and over settings that no tensor's shape shows.

    The same for any file layout: neither names in the checkpoint, nor copies of an optimizer, nor a decoder count.
    """
    import torch

    digest = hashlib.sha256(f"{_FORMAT}\n{json.dumps(settings, sort_keys=True)}\n".encode())
    for name, tensor in _inference_tensors(network):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _inference_tensors(network: Any) -> Iterator[tuple[str, Any]]:
    for name, tensor in sorted(network.state_dict().items()):
        if not name.startswith(_DECODER):
            yield name, tensor


def _same(tensor: Any, source: Any) -> bool:
    import torch

    return bool(tensor.shape == source.shape and torch.equal(tensor.cpu(), source.to(tensor.dtype)))


def _scopes(scope_map: object) -> list[tuple[str, str]]:
    parts: Sequence[object] = scope_map.split(",") if isinstance(scope_map, str) else []
    if isinstance(scope_map, (list, tuple)):
        parts = scope_map
    texts = ["" if str(part).lower() == "none" else str(part) for part in (*parts, "module.", "none")]
    return list(zip(texts[::2], texts[1::2], strict=False))


def _names_in_checkpoint(name: str, scopes: Sequence[tuple[str, str]]) -> list[str]:
    """Under which names FunASR looks for a tensor of the network."""
    return [name, *(source + name.removeprefix(target) for source, target in scopes if name.startswith(target))]


def _why(name: str, tensor: Any, checkpoint: Mapping[str, Any], scopes: Sequence[tuple[str, str]]) -> str:
    for key in _names_in_checkpoint(name, scopes):
        if key in checkpoint:
            return f"({tuple(tensor.shape)} by config.yaml, {tuple(checkpoint[key].shape)} in the checkpoint)"
    # the shortest: blocks.0 of the context encoder ends like blocks.0 itself
    named_longer = min((key for key in checkpoint if key.endswith(f".{name}")), key=len, default=None)
    if named_longer:
        prefix = named_longer.removesuffix(name)
        return f"(there as {named_longer}: config.yaml needs scope_map: ['{prefix}', none])"
    return "(config.yaml and checkpoint are of different models)"
