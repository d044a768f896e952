"""Translate the names and layouts of the tensors of the paper's public code into ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

UNUSED = ("transformer.rew_emb.", "transformer.valid_seq_emb.")
SHARED = ("transformer.r_emb", "transformer.r_bias", "transformer.r_w_bias")
NAMES = (
    ("rnn.weight", "path.weight"),
    ("transformer.grid_emb.0.", "place."),
    ("transformer.word_emb.", "letter."),
    ("transformer.layers.", "layers."),
    (".dec_attn.qkv_net.", ".attention.qkv."),
    (".dec_attn.o_net.", ".attention.out."),
    (".dec_attn.layer_norm.", ".attention.norm."),
    (".pos_ff.fc1.0.", ".ffn.fc1."),
    (".pos_ff.fc2.0.", ".ffn.fc2."),
    (".pos_ff.layer_norm.", ".ffn.norm."),
    ("transformer.ln_f.", "norm."),
    ("classifier.", "read_out."),
)


def our_name(name: str) -> str:
    """Return our name of a parameter of the paper's code."""
    for theirs, ours in NAMES:
        name = name.replace(theirs, ours)
    return name


def sizes(tensors: Mapping[str, Tensor], n_head: int, reach: int) -> dict[str, Any]:
    """Sizes of the network from the shapes of its tensors, checked against the arguments."""
    n_layers, distances, n_heads, d_head = tensors["transformer.r_emb"].shape
    if (n_heads, distances) != (n_head, reach):
        raise ValueError(
            f"n_head and chunk + memory must be {n_heads} and {distances} for these tensors "
            f"(transformer.r_emb), got {n_head} and {reach}"
        )
    d_inner, d_model = tensors["transformer.layers.0.pos_ff.fc1.0.weight"].shape
    return {
        "n_letters": len(tensors["classifier.weight"]),
        "d_model": d_model,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "d_head": d_head,
        "d_inner": d_inner,
        "d_rnn": tensors["rnn.weight"].shape[-1],
    }


def translate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reorder the tensors.

    Theirs start with the farthest distance and have the axis of heads after that of distances.
    """
    renamed = {
        our_name(name): tensor
        for name, tensor in tensors.items()
        if name not in SHARED and not name.startswith(UNUSED)
    }
    for i in range(len(tensors["transformer.r_emb"])):
        at = f"layers.{i}.attention."
        renamed[at + "distance"] = tensors["transformer.r_emb"][i].flip(0).transpose(0, 1)
        renamed[at + "distance_bias"] = tensors["transformer.r_bias"][i].flip(0).transpose(0, 1)
        renamed[at + "query_bias"] = tensors["transformer.r_w_bias"][i]
    return renamed
