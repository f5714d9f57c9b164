"""Writes emotion2vec model folders of the published shape with random weights, for tests that need a real network.

The tensors are listed here by name and shape rather than taken from FunASR's own module, so that a folder written here
also tests that FunASR builds the network that the published checkpoints fill: 185 tensors for "large", as public
converters of emotion2vec/emotion2vec_plus_large (revision 6c303ba9) list them. As in the published files, all but the
head's names start with "d2v_model.", and config.yaml asks for a decoder that no checkpoint holds.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown")
TOKENS = (
    "生气/angry",
    "厌恶/disgusted",
    "恐惧/fearful",
    "开心/happy",
    "中立/neutral",
    "其他/other",
    "难过/sad",
    "吃惊/surprised",
    "<unk>",
)
FIVE_TOKENS = (
    "生气/angry",
    "unuse_0",
    "unuse_1",
    "开心/happy",
    "中立/neutral",
    "unuse_2",
    "难过/sad",
    "unuse_3",
    "<unk>",
)
"""As in older revisions of tokens.txt: four outputs of the head are out of use."""

_STEM = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # kernel and stride of each convolution


@dataclass(frozen=True, slots=True)
class Shape:
    dim: int
    heads: int
    prenet: int  # blocks before the main ones
    depth: int
    stem: int  # channels of the convolutions
    groups: int  # of the positional convolutions
    decoder: int


SHAPES = {
    "tiny": Shape(64, 4, 1, 1, 32, 4, 32),
    "base": Shape(768, 12, 4, 8, 512, 16, 384),
    "large": Shape(1024, 16, 4, 8, 512, 16, 768),
}


def tensors(shape: Shape, classes: int = len(TOKENS)) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor that inference reads; `classes` 0 for no head."""
    dim, audio = shape.dim, "modality_encoders.AUDIO"
    out: dict[str, tuple[int, ...]] = {
        f"{audio}.extra_tokens": (1, 10, dim),
        f"{audio}.alibi_scale": (1, 1, shape.heads, 1, 1),
        f"{audio}.project_features.1.weight": (shape.stem,),
        f"{audio}.project_features.1.bias": (shape.stem,),
        f"{audio}.project_features.2.weight": (dim, shape.stem),
        f"{audio}.project_features.2.bias": (dim,),
        f"{audio}.context_encoder.norm.weight": (dim,),
        f"{audio}.context_encoder.norm.bias": (dim,),
    }
    for layer, (kernel, _) in enumerate(_STEM):
        out[f"{audio}.local_encoder.conv_layers.{layer}.0.weight"] = (shape.stem, shape.stem if layer else 1, kernel)
        out[f"{audio}.local_encoder.conv_layers.{layer}.2.1.weight"] = (shape.stem,)
        out[f"{audio}.local_encoder.conv_layers.{layer}.2.1.bias"] = (shape.stem,)
    for layer in range(1, 6):
        out[f"{audio}.relative_positional_encoder.{layer}.0.weight"] = (dim, dim // shape.groups, 19)
        out[f"{audio}.relative_positional_encoder.{layer}.0.bias"] = (dim,)
    for prefix in (
        *(f"{audio}.context_encoder.blocks.{block}" for block in range(shape.prenet)),
        *(f"blocks.{block}" for block in range(shape.depth)),
    ):
        for name, rows, columns in (
            ("attn.qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("mlp.fc1", 4 * dim, dim),
            ("mlp.fc2", dim, 4 * dim),
        ):
            out[f"{prefix}.{name}.weight"] = (rows, columns)
            out[f"{prefix}.{name}.bias"] = (rows,)
        for norm in ("norm1", "norm2"):
            out[f"{prefix}.{norm}.weight"] = (dim,)
            out[f"{prefix}.{norm}.bias"] = (dim,)
    if classes:
        out["proj.weight"] = (classes, dim)
        out["proj.bias"] = (classes,)
    return out


def write_model(
    folder: Path,
    shape: str = "tiny",
    *,
    seed: int = 0,
    tokens: tuple[str, ...] = TOKENS,
    decoder: bool = False,
    optimizer: bool = False,
    **model_conf: Any,
) -> Path:
    """Writes configuration.json, config.yaml, tokens.txt and model.pt.

    Args:
        folder: where; made if it is not there.
        shape: "tiny" (64-d), "base" (768-d) or "large" (1024-d).
        seed: which weights; the same seed gives the same ones.
        tokens: lines of tokens.txt, none for a model without a head.
        decoder: the checkpoint also holds tensors of the decoder.
        optimizer: the checkpoint also holds two copies of the weights, as the published ones do.
        **model_conf: entries of config.yaml's model_conf that differ from the published ones.
    """
    import torch
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    sizes = SHAPES[shape]
    generator = torch.Generator().manual_seed(seed)
    state = {
        name if name.startswith("proj.") else f"d2v_model.{name}": _random(name, size, generator)
        for name, size in tensors(sizes, len(tokens)).items()
    }
    checkpoint: dict[str, Any] = {"args": None, "cfg": {}, "model": state}
    if optimizer:
        copies = {i: {"exp_avg": value * 0, "exp_avg_sq": value * value} for i, value in enumerate(state.values())}
        checkpoint["last_optimizer_state"] = {"state": copies}
    if decoder:
        width = sizes.decoder // sizes.groups if sizes.decoder == sizes.dim else sizes.dim // sizes.groups
        state["d2v_model.modality_encoders.AUDIO.decoder.blocks.0.0.weight"] = torch.ones(sizes.decoder, width, 7)
        state["d2v_model.modality_encoders.AUDIO.decoder.proj.bias"] = torch.ones(sizes.dim)
    torch.save(checkpoint, folder / "model.pt")

    config: dict[str, Any] = {
        "model": "Emotion2vec",
        "model_conf": _model_conf(sizes) | model_conf,
        "scope_map": ["d2v_model.", "none"],
    }
    files: dict[str, Any] = {"init_param": "model.pt", "config": "config.yaml"}
    if tokens:
        config |= {"tokenizer": "CharTokenizer", "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True}}
        files["tokenizer_conf"] = {"token_list": "tokens.txt"}
        (folder / "tokens.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    described = {"framework": "pytorch", "task": "emotion-recognition", "file_path_metas": files}
    (folder / "configuration.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def _random(name: str, size: tuple[int, ...], generator: Any) -> Any:
    """Values that keep a signal's size through the layers, and that make each tensor count."""
    import torch

    values = torch.randn(size, generator=generator)
    if name.endswith("alibi_scale"):
        return 0.2 + values.abs()
    if name.endswith("extra_tokens") or name.endswith(".bias"):
        return 0.02 * values
    if len(size) == 1:  # the gain of a layer norm
        return 1 + 0.1 * values
    return values / math.sqrt(math.prod(size[1:]))


def _model_conf(shape: Shape) -> dict[str, Any]:
    drops = ("prenet_layerdrop", "start_drop_path_rate", "end_drop_path_rate", "mask_dropout", "mask_channel_prob")
    off = ("inverse_mask", "add_masks", "remove_masks", "ema_local_encoder", "learned_alibi", "conv_pos_pre_ln")
    audio: dict[str, Any] = {
        "type": "AUDIO",
        **dict.fromkeys(drops, 0.0),
        **dict.fromkeys(off, False),
        "prenet_depth": shape.prenet,
        "prenet_dropout": 0.1,
        "model_depth": shape.depth,
        "num_extra_tokens": 10,
        "init_extra_token_zero": True,
        "mask_prob": 0.55,
        "mask_prob_min": None,
        "mask_length": 5,
        "local_grad_mult": 1.0,
        "use_alibi_encoder": True,
        "alibi_scale": 1.0,
        "alibi_max_pos": None,
        "learned_alibi_scale": True,
        "learned_alibi_scale_per_head": True,
        "learned_alibi_scale_per_layer": False,
        "num_alibi_heads": shape.heads,
        "extractor_mode": "layer_norm",
        "feature_encoder_spec": " + ".join(f"[({shape.stem}, {kernel}, {stride})]" for kernel, stride in _STEM),
        "conv_pos_width": 95,
        "conv_pos_depth": 5,
        "conv_pos_groups": shape.groups,
        "decoder": {
            "decoder_dim": shape.decoder,
            "decoder_groups": shape.groups,
            "decoder_kernel": 7,
            "decoder_layers": 4,
            "input_dropout": 0.1,
            "add_positions_masked": False,
            "add_positions_all": False,
            "decoder_residual": True,
            "projection_layers": 1,
            "projection_ratio": 2.0,
        },
    }
    return {
        "depth": shape.depth,
        "embed_dim": shape.dim,
        "num_heads": shape.heads,
        "mlp_ratio": 4.0,
        "norm_eps": 1e-5,
        "norm_affine": True,
        "layer_norm_first": False,
        "end_of_block_targets": False,
        **dict.fromkeys(("start_drop_path_rate", "end_drop_path_rate", "dropout_input", "activation_dropout"), 0.0),
        **dict.fromkeys(("encoder_dropout", "attention_dropout", "post_mlp_drop"), 0.1),
        "layerdrop": 0.0,
        "average_top_k_layers": 16,
        "loss_beta": 0.0,
        "loss_scale": None,
        "normalize": True,
        "modalities": {"audio": audio},
    }
