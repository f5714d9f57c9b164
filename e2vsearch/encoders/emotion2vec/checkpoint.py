"""A checkpoint is read, checked against the network it must fill, and copied without what is not needed.

The copy opens the published shape in 2.0 to 2.8 s, where the checkpoint itself takes 6.0 to 6.5 s (two busy cores).

FunASR starts from random numbers and copies over whatever it finds in the checkpoint under the right name and of the
right shape; what it does not find stays random, with a line on stdout at most. Here what is not found is an error.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2vsearch import settings
from e2vsearch.errors import BadWeights, first_line

_DECODER = "modality_encoders.AUDIO.decoder."
"""Of pre-training only: published checkpoints hold no such tensor, and no vector comes near it."""

_FORMAT = "emotion2vec-1"
"""What a fingerprint is made of; a new tag makes all earlier ones another space."""


def read(path: Path) -> dict[str, Any]:
    """Return the tensors of a checkpoint by name, mapped from the file rather than read where its format allows.

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
    """Return each tensor that a vector depends on, as it is in the checkpoint.

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
    """Check that tensors are as they were saved, which torch does not look at: files rot, and downloads are resumed.

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
    """Return the CRC-32 of a tensor's values: 2 GB/s, SHA-256 does 0.9 (one core of a Xeon with SHA instructions)."""
    import torch

    return zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def fingerprint(tensors: Iterable[tuple[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return SHA-256 over the tensors that vectors depend on, and over settings that no tensor's shape shows.

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
    """Yield every tensor of a network but its decoder's, by name."""
    for name, tensor in sorted(network.state_dict().items()):
        if not name.startswith(_DECODER):
            yield name, tensor


def _scopes(scope_map: object) -> list[tuple[str, str]]:
    texts = ["" if part.lower() == "none" else part for part in (*_listed(scope_map), "module.", "none")]
    return list(zip(texts[::2], texts[1::2], strict=False))


def _listed(given: object) -> list[str]:
    """Return a list in config.yaml, which FunASR also takes as text with commas."""
    if isinstance(given, str):
        return given.split(",")
    return [str(part) for part in given] if isinstance(given, list | tuple) else []


def _names_in_checkpoint(name: str, scopes: Sequence[tuple[str, str]]) -> list[str]:
    """Return the names under which FunASR looks for a tensor of the network."""
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


OFF = "off"
_STRIPPED_FORMAT = "emotion2vec-stripped-1"
_SUMS = "crc32"
_READERS = 2  # threads that read a file and add up its checksums, which is about as fast as memory then


@dataclass(frozen=True, slots=True)
class Stripped:
    """The place of the copy of one checkpoint."""

    path: Path

    def read(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the tensors that are wanted, mapped, each as it was written; None if there is no such copy."""
        import safetensors

        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                sums = json.loads((file.metadata() or {}).get(_SUMS, "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (OSError, ValueError, safetensors.SafetensorError):
            return None
        if tensors.keys() != wanted.keys() or sums.keys() != wanted.keys():
            return None
        if any((each.shape, each.dtype) != (wanted[name].shape, wanted[name].dtype) for name, each in tensors.items()):
            return None
        with ThreadPoolExecutor(_READERS) as pool:
            found = dict(zip(tensors, pool.map(checksum, tensors.values()), strict=True))
        return tensors if found == sums else None

    def write(self, tensors: Mapping[str, Any]) -> bool:
        """Keep a copy; whether there is one now. A full disk or another process at the same work are no errors."""
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock"), timeout=0):
                return self._write(tensors)
        except (OSError, Timeout, NotImplementedError):  # file systems without locks
            return False

    def _write(self, tensors: Mapping[str, Any]) -> bool:
        import safetensors
        from safetensors.torch import save_file

        aside = self.path.with_suffix(".part")  # one name: what a killed process left is overwritten
        sums = {name: checksum(tensor) for name, tensor in tensors.items()}
        try:
            # not synced to disk: what a power cut tears is found out by the next reading
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside, {_SUMS: json.dumps(sums)})
            aside.replace(self.path)
        except (OSError, safetensors.SafetensorError):
            with suppress(OSError):
                aside.unlink()
            return False
        return True


def find(checkpoint: Path, wanted: Mapping[str, Any], mapping: object) -> Stripped | None:
    """Return the place of a checkpoint's copy; None where none can be kept.

    Args:
        checkpoint: the file.
        wanted: names, shapes and types of the network's tensors.
        mapping: whatever else decides which tensor goes where.
    """
    folder = place()
    try:
        import safetensors  # noqa: F401 - part of the extra
    except ImportError:
        return None
    named = _identity(checkpoint) if folder is not None else None
    if folder is None or named is None:
        return None
    use = [
        _STRIPPED_FORMAT,
        named,
        mapping,
        sorted((name, str(each.dtype), tuple(each.shape)) for name, each in wanted.items()),
    ]
    key = hashlib.sha256(json.dumps(use, default=str).encode()).hexdigest()
    return Stripped(folder / f"{key[:32]}.safetensors")


def place() -> Path | None:
    """Return the folder of copies, by the setting ``weights_cache``; None where it is off."""
    named = settings.load().weights_cache
    if named == OFF:
        return None
    return Path(named).expanduser() if named else settings.user_cache() / "weights"


def described() -> str:
    """Describe where copies are kept, and how much of the disk they take."""
    folder = place()
    if folder is None:
        return "off: checkpoints are read anew at every start"
    try:
        sizes = [file.stat().st_size for file in folder.glob("*.safetensors")]
    except OSError:
        sizes = []
    return f"{folder}: {len(sizes)} checkpoints, {sum(sizes) / 1e9:.2f} GB; may be deleted at any time"


def sums(checkpoint: Path) -> list[tuple[str, int, int]] | None:
    """Return name, size in bytes and CRC-32 of each part of a checkpoint; None where it has none, or is no archive."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            parts = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return None
    if not any(part.CRC for part in parts):  # saved with torch.serialization.set_crc32_options(False)
        return None
    # the first folder is called like the file that was saved
    return [(part.filename.partition("/")[2], part.file_size, part.CRC) for part in parts]


def _identity(checkpoint: Path) -> object | None:
    parts = sums(checkpoint)
    return None if parts is None else [checkpoint.stat().st_size, sorted(parts)]
