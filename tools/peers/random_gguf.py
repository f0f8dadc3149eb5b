"""Writes a GGUF file of a known model's shape with random weights, for measuring what depends on shapes alone.

    random_gguf.py SHAPE OUT.gguf q4|q8

Matrices are blocks of any integers with one scale each, of the variance of an initialised model, so that activations stay in
range; the text is noise. Nothing is quantized and one tensor is in memory at a time, so that a 7B model takes a minute, and no
room but its own. Matrices whose rows are not whole blocks are F16, as llama.cpp's own conversion has them.
"""

import sys

import gguf
import numpy as np

from write_gguf import FILE_TYPES, TYPES, describe

SHAPES = {
    "mistral-7b": {
        "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32768,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "tied": False,
    },
    "llama-135m": {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49152,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tied": True,
    },
    "codestral-mamba-7b": {
        "model_type": "mamba2", "hidden_size": 4096, "num_heads": 128, "state_size": 128, "num_hidden_layers": 64,
        "n_groups": 8, "expand": 2, "conv_kernel": 4, "vocab_size": 32768, "layer_norm_epsilon": 1e-5, "tied": False,
    },
    "mamba-130m": {
        "model_type": "mamba", "hidden_size": 768, "state_size": 16, "num_hidden_layers": 24, "expand": 2,
        "conv_kernel": 4, "time_step_rank": 48, "vocab_size": 50280, "layer_norm_epsilon": 1e-5, "tied": True,
    },
}  # fmt: skip

# Standard deviation of the integers of a block: any of -8 to 7, and of -127 to 127.
DEVIATIONS = {"q4": 4.61, "q8": 73.6}


def transformer(config):
    """Names and shapes of a layer; a number stands for all numbers of a vector."""
    d_model, d_ff = config["hidden_size"], config["intermediate_size"]
    q = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    return {
        "attn_norm.weight": (1.0, (d_model,)),
        "attn_q.weight": (q, d_model),
        "attn_k.weight": (kv, d_model),
        "attn_v.weight": (kv, d_model),
        "attn_output.weight": (d_model, q),
        "ffn_norm.weight": (1.0, (d_model,)),
        "ffn_gate.weight": (d_ff, d_model),
        "ffn_up.weight": (d_ff, d_model),
        "ffn_down.weight": (d_model, d_ff),
    }


def mamba(config):
    d_model, d_state, rank = config["hidden_size"], config["state_size"], config["time_step_rank"]
    d_inner = config["expand"] * d_model
    return {
        "attn_norm.weight": (1.0, (d_model,)),
        "ssm_in.weight": (2 * d_inner, d_model),
        "ssm_conv1d.weight": (0.25, (d_inner, config["conv_kernel"])),
        "ssm_conv1d.bias": (0.0, (d_inner,)),
        "ssm_x.weight": (rank + 2 * d_state, d_inner),
        "ssm_dt.weight": (d_inner, rank),
        "ssm_dt.bias": (-4.6, (d_inner,)),
        "ssm_a": (-1.0, (d_inner, d_state)),
        "ssm_d": (1.0, (d_inner,)),
        "ssm_out.weight": (d_model, d_inner),
    }


def mamba2(config):
    d_model, heads, groups = config["hidden_size"], config["num_heads"], config["n_groups"]
    d_inner = config["expand"] * d_model
    channels = d_inner + 2 * groups * config["state_size"]
    return {
        "attn_norm.weight": (1.0, (d_model,)),
        "ssm_in.weight": (d_inner + channels + heads, d_model),
        "ssm_conv1d.weight": (0.25, (channels, config["conv_kernel"])),
        "ssm_conv1d.bias": (0.0, (channels,)),
        "ssm_dt.bias": (-4.6, (heads,)),
        "ssm_a": (-1.0, (heads, 1)),
        "ssm_d": (1.0, (heads, 1)),
        "ssm_norm.weight": (1.0, (groups, d_inner // groups)),
        "ssm_out.weight": (d_model, d_inner),
    }


LAYERS = {"llama": transformer, "mistral": transformer, "mamba": mamba, "mamba2": mamba2}


def tensors(config):
    """Names and shapes of a model, in the order of the file."""
    table = (config["vocab_size"], config["hidden_size"])
    yield "token_embd.weight", table
    for layer in range(config["num_hidden_layers"]):
        for name, shape in LAYERS[config["model_type"]](config).items():
            yield f"blk.{layer}.{name}", shape
    yield "output_norm.weight", (1.0, (config["hidden_size"],))
    if not config["tied"]:
        yield "output.weight", table


def encoding(shape, quant):
    """The type of a tensor, and its shape in bytes if it has blocks."""
    if isinstance(shape[0], float):
        return TYPES["f32"], shape[1], np.dtype(np.float32)
    if shape[1] % 32 != 0:
        return TYPES["f16"], shape, np.dtype(np.float16)
    numbers, size = gguf.GGML_QUANT_SIZES[TYPES[quant]]
    return TYPES[quant], (shape[0], shape[1] // numbers * size), np.dtype(np.uint8)


def fill(random, shape, quant):
    """The content of a tensor."""
    kind, places, dtype = encoding(shape, quant)
    if kind == TYPES["f32"]:
        return np.full(places, shape[0], dtype)
    deviation = shape[1] ** -0.5
    if kind == TYPES["f16"]:
        return random.normal(0.0, deviation, places).astype(dtype)
    data = random.integers(0, 256, places, dtype=np.uint8)
    if quant == "q8":
        # No quantizer makes -128.
        data[data == 128] = 127
    blocks = data.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])
    blocks[:, :2] = np.frombuffer(np.float16(deviation / DEVIATIONS[quant]).tobytes(), np.uint8)
    return data


def main(shape, out, quant):
    config = SHAPES[shape]
    kind = config["model_type"]
    writer = gguf.GGUFWriter(out, "llama" if kind == "mistral" else kind)
    describe(writer, config)
    writer.add_file_type(FILE_TYPES[quant])
    for name, size in tensors(config):
        kind, places, dtype = encoding(size, quant)
        writer.add_tensor_info(name, places, dtype, int(np.prod(places)) * dtype.itemsize, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(1)
    for _, size in tensors(config):
        writer.write_tensor_data(fill(random, size, quant))
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
