#!/usr/bin/env python3
"""Makes tiny random checkpoints, and the numbers that transformers computes from them in float32 on a CPU.

    python3 -m venv venv && venv/bin/pip install torch transformers
    venv/bin/python tools/golden/make_golden.py OUT [NAME ..]

Each OUT/<name>/ is a checkpoint as transformers saves one, with golden.json beside it:

    prompt_ids      [seq]                       the prompt
    embeddings      [seq][d_model]              residual stream before the first layer
    layer_outputs   [n_layers][seq][d_model]    residual stream after each layer
    final_norm      [seq][d_model]              after the final norm
    logits_all      [seq][vocab_size]           scores after each token of the prompt
    greedy_ids      [32]                        tokens that follow when the best is always taken
    greedy_margin   [32]                        how much better than the second best each was

Every step is a full forward pass without a cache. Numbers have 9 significant digits, which round-trip float32.
"""

import json
import math
import sys
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

TOKENS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=None)
SMALL = dict(hidden_size=32, num_hidden_layers=2, vocab_size=96, tie_word_embeddings=True, **TOKENS)
HEADS = dict(intermediate_size=80, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256)
EAGER = dict(attn_implementation="eager")
LLAMA3 = dict(
    rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=64,
)

# name -> (class, config, prompt length)
MODELS = {
    # Biases on queries, keys and values; windows from the second layer on.
    "qwen2-bias-windows": lambda: (
        Qwen2ForCausalLM,
        Qwen2Config(**SMALL, **HEADS, **EAGER, use_sliding_window=True, sliding_window=6, max_window_layers=1),
        20,
    ),
    # Norms on each head; rotary frequencies stretched as Llama 3.1 does; a head wider than d_model / n_heads.
    "qwen3-norms-llama3-rope": lambda: (
        Qwen3ForCausalLM, Qwen3Config(**SMALL, **HEADS, **EAGER, head_dim=16, rope_parameters=LLAMA3), 40,
    ),
    # Every bias that a Llama may have, linear stretching, one key/value head, own head.
    "llama-all-biases": lambda: (
        LlamaForCausalLM,
        LlamaConfig(**SMALL | dict(tie_word_embeddings=False), **HEADS | dict(num_key_value_heads=1), **EAGER,
                    attention_bias=True, mlp_bias=True,
                    rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0)),
        20,
    ),
    # A window of one block of positions or less, an odd number of heads.
    "mistral-narrow-window": lambda: (
        MistralForCausalLM,
        MistralConfig(**SMALL | dict(hidden_size=36), **HEADS | dict(num_attention_heads=3, num_key_value_heads=3),
                      **EAGER, head_dim=12, sliding_window=1),
        20,
    ),
    # Biases on projections, none on the convolution, an odd state, an own head.
    "mamba-biases": lambda: (
        MambaForCausalLM,
        MambaConfig(**SMALL | dict(tie_word_embeddings=False), state_size=5, conv_kernel=3, expand=3,
                    time_step_rank=7, use_bias=True, use_conv_bias=False),
        23,
    ),
    # The same of Mamba-2, with four groups and a clamp on time steps.
    "mamba2-biases-clamp": lambda: (
        Mamba2ForCausalLM,
        Mamba2Config(**SMALL | dict(tie_word_embeddings=True), num_heads=8, head_dim=8, n_groups=4, state_size=6,
                     conv_kernel=3, chunk_size=8, use_bias=True, use_conv_bias=False, time_step_limit=(0.02, 0.08)),
        29,
    ),
    # More tokens than the longest chunk of the whole-sequence pass, and no multiple of it.
    "mamba2-long": lambda: (
        Mamba2ForCausalLM,
        Mamba2Config(**SMALL, num_heads=4, head_dim=16, n_groups=2, state_size=16, chunk_size=256), 150,
    ),
}


def randomize(model, seed):
    """Gives every parameter a value that is neither its default nor its neighbour's, at a scale that stays sane."""
    generator = torch.Generator().manual_seed(seed)
    # A tied head is the table itself, and listed once.
    for name, param in model.named_parameters():
        noise = torch.randn(param.shape, generator=generator)
        leaf = name.rsplit(".", 1)[-1]
        with torch.no_grad():
            if leaf == "A_log":
                param.add_(0.1 * noise)
            elif leaf == "D" or (param.ndim == 1 and "norm" in name):
                param.copy_(1 + 0.2 * noise)
            elif leaf == "dt_bias" or name.endswith("dt_proj.bias"):
                param.copy_(noise - 3)
            elif "conv1d.weight" in name:
                param.copy_(0.5 * noise)
            elif param.ndim == 1:
                param.copy_(0.1 * noise)
            else:
                gain = 2.0 if "embed" in name or "lm_head" in name else 0.8 if "x_proj" in name else 1.5
                param.copy_(gain * noise / math.sqrt(param.shape[1]))


def residuals(model, ids):
    """Runs the prompt; the residual stream at every place, and the scores."""
    base = model.base_model
    table, norm = model.get_input_embeddings(), getattr(base, "norm", None) or base.norm_f
    seen = {}

    def keep(key):
        return lambda module, inputs, output: seen.update({key: output[0] if isinstance(output, tuple) else output})

    hooks = [table.register_forward_hook(keep("table")), norm.register_forward_hook(keep("norm"))]
    hooks += [layer.register_forward_hook(keep(index)) for index, layer in enumerate(base.layers)]
    logits = scores(model, ids)
    for hook in hooks:
        hook.remove()
    return seen["table"][0], [seen[index][0] for index in range(len(base.layers))], seen["norm"][0], logits


def scores(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def numbers(tensor):
    if tensor.ndim == 1:
        return [float(f"{number:.9g}") for number in tensor.tolist()]
    return [numbers(row) for row in tensor]


def golden(model, ids):
    table, layers, norm, logits = residuals(model, ids)
    sequence, greedy, margins = list(ids), [], []
    for _ in range(32):
        best = torch.topk(scores(model, sequence)[-1], 2)
        greedy.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        sequence.append(greedy[-1])
    return {
        "prompt_ids": ids,
        "embeddings": numbers(table),
        "layer_outputs": [numbers(layer) for layer in layers],
        "final_norm": numbers(norm),
        "logits_all": numbers(logits),
        "logits_last": numbers(logits[-1]),
        "greedy_ids": greedy,
        "greedy_margin": margins,
    }


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out, names = Path(sys.argv[1]), sys.argv[2:] or list(MODELS)
    for name in names:
        kind, config, length = MODELS[name]()
        seed = sum(map(ord, name))
        torch.manual_seed(seed)
        model = kind(config).float().eval()
        randomize(model, seed)
        ids = torch.randint(3, config.vocab_size, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
        with torch.no_grad():
            found = golden(model, ids)
        folder = out / name
        model.save_pretrained(folder)
        (folder / "golden.json").write_text(json.dumps(found, separators=(",", ":")))
        print(f"{name}: smallest margin {min(found['greedy_margin']):.4f}, {len(set(found['greedy_ids']))} tokens")


if __name__ == "__main__":
    main()
