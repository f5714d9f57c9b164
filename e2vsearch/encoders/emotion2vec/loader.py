"""A model folder becomes a network that computes.

`funasr.AutoModel` reads all of a checkpoint, copies it, and then copies the third of it that is weights into a network
that was filled with random numbers first: 4.8 GB at its peak for 0.65 GB of weights. Here FunASR's network is made
without memory for its tensors (on torch's "meta" device, and without the decoder, which nothing but pre-training
uses), and each tensor is put in its place as it lies in the mapped file, or in the stripped copy of an earlier start.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from e2vsearch.encoders.base import EncoderOptions
from e2vsearch.encoders.emotion2vec import checkpoint as weights
from e2vsearch.encoders.emotion2vec import model_folder as folders
from e2vsearch.encoders.emotion2vec.funasr import Classes, classes, silenced
from e2vsearch.errors import BadWeights, EncoderUnavailable, first_line


def load(folder: folders.ModelFolder, options: EncoderOptions) -> tuple[Any, list[str] | None]:
    """Return FunASR's network, filled, checked and without its decoder, and the lines of its tokens.txt.

    On a CPU its tensors may lie in a mapped file, which processes share: they are not to be written to.

    Raises:
        EncoderUnavailable: FunASR cannot be imported, or there is no such device.
        BadWeights: the folder is not whole, or the checkpoint does not fill the network.
    """
    with silenced():
        with classes() as found:
            tokens, network = _made(found, folder)
        device = _device(options.device)
        network.load_state_dict(_tensors(network, folder), strict=True, assign=True)
        homeless = [name for name, tensor in (*network.named_parameters(), *network.named_buffers()) if tensor.is_meta]
        if homeless:
            raise BadWeights(f"FunASR's network has tensors that no checkpoint holds, {homeless[0]} first; use 1.4.16")
        network.requires_grad_(False)
        network.eval()
        network.to(device)
    return network, tokens


def _made(found: Classes, folder: folders.ModelFolder) -> tuple[list[str] | None, Any]:
    try:
        tokens = _tokens(found, folder)
        return tokens, _empty(found, folder, len(tokens or ()))
    except (ImportError, BadWeights):
        raise
    except Exception as error:  # FunASR's constructors raise whatever a config makes them raise
        raise BadWeights(f"FunASR cannot open {folder.path}: {type(error).__name__}: {first_line(error)}") from error


def _device(name: str) -> Any:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EncoderUnavailable(f"torch has no device called {name!r}; use cpu, cuda or mps") from error
    try:
        usable = device.type != "meta" and torch.ones(1, device=device).item() == 1
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # a build without CUDA fails an assertion
        raise _unusable(device.type) from error
    if not usable:
        raise _unusable(device.type)
    return device


def _unusable(kind: str) -> EncoderUnavailable:
    return EncoderUnavailable(f"torch has no usable {kind} device here; use --device cpu")


def _tokens(found: Classes, folder: folders.ModelFolder) -> list[str] | None:
    """Return the lines of tokens.txt, as FunASR's own class reads and judges them; None without a tokenizer."""
    kind = folder.config.get("tokenizer")
    if kind is None:
        return None
    if kind not in found.tokenizers:
        raise BadWeights(f"{folder.path}: config.yaml names {kind!r} as tokenizer, and emotion2vec has a CharTokenizer")
    settings = dict(folder.config.get("tokenizer_conf") or {})
    if folder.token_list is not None:
        settings["token_list"] = str(folder.token_list)
    tokens = getattr(found.tokenizers[kind](**settings), "token_list", None)
    if tokens is None:
        raise BadWeights(f"{folder.path} has no tokens.txt, which names the classes; copy it again")
    return list(tokens)


def _empty(found: Classes, folder: folders.ModelFolder, count: int) -> Any:
    """Return the network with `count` classes, its tensors without values: of sizes that config.yaml says."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Undrawn(TorchFunctionMode):  # type: ignore[misc]
        """Draws no random numbers for what has no memory: torch would import 1.7 s and 150 MB to do nothing."""

        def __torch_function__(self, function: Any, _types: Any, given: Any = (), named: Any = None) -> Any:
            named = named or {}
            if getattr(function, "__name__", "") in ("normal_", "uniform_"):  # of Tensor, and of torch.nn.init
                return given[0] if given else named["tensor"]
            return function(*given, **named)

    described = deepcopy(dict(folder.config["model_conf"]))
    described["modalities"]["audio"]["decoder"] = None  # FunASR takes that, and gives the same vectors
    with torch.device("meta"), Undrawn():
        return found.network(model_conf=described, vocab_size=count or -1)


def _tensors(network: Any, folder: folders.ModelFolder) -> dict[str, Any]:
    """Return every tensor of the network: from the stripped copy, which is made now if there is none."""
    wanted = dict(weights.inference_tensors(network))
    mapping = folder.config.get("scope_map"), folder.config.get("excludes")
    kept = weights.find(folder.checkpoint, wanted, mapping)
    if kept is not None:
        tensors = kept.read(wanted)
        if tensors is not None:
            return tensors
    checkpoint = weights.read(folder.checkpoint)
    matched = weights.matched(wanted, checkpoint, *mapping, folder.checkpoint)
    parts = weights.sums(folder.checkpoint)
    if parts is not None:
        weights.check_whole(matched, {(size, crc) for _, size, crc in parts}, folder.checkpoint)
    tensors = {name: source.to(wanted[name].dtype) for name, source in matched.items()}
    if kept is not None and kept.write(tensors):
        again = kept.read(wanted)
        if again is not None:
            return again
    # copied: a checkpoint in its folder may be overwritten in place some day, and a map would follow it
    return {name: tensor.clone() for name, tensor in tensors.items()}
