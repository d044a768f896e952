"""GPT-2 and Llama, built from their configuration, along walks over letters."""

import torch
import transformers

import placeformer as pf

N_LETTERS, N_STEPS, WIDTH, MLP = 10, 96, 24, 48

TOKENS = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": N_LETTERS, "use_cache": False}

GPT2 = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_inner": MLP, "n_positions": N_STEPS}

LLAMA = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}

LLAMA |= {"intermediate_size": MLP, "max_position_embeddings": N_STEPS}

WORLD = pf.GridWorld(side=7, n_letters=N_LETTERS, n_maps=1, seed=0)

ACTIVATIONS = {"GPT2": "h.*.mlp.act", "Llama": "layers.*.mlp.act_fn"}


def gpt2(kind="GPT2Model", **options):
    """A small GPT-2 with random weights."""
    torch.manual_seed(0)
    return getattr(transformers, kind)(transformers.GPT2Config(**GPT2, **TOKENS, **options)).eval()


def llama():
    """A small Llama with random weights."""
    torch.manual_seed(0)
    return transformers.LlamaModel(transformers.LlamaConfig(**LLAMA, **TOKENS)).eval()


def run(network, walks, **settings):
    """Record a language model along walks, with the letters as its tokens."""
    ids = {"input_ids": walks.observation}
    return pf.record(network, walks, **{"inputs": ids, "progress": False, **settings})
