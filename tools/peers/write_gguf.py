"""Writes a checkpoint as transformers has it as GGUF, by the conventions of llama.cpp's own conversion, which needs torch.

    write_gguf.py CHECKPOINT OUT.gguf f32|f16|q8|q4

Matrices are F32, F16, Q8_0 or Q4_0; what cannot be cut into blocks of 32 is F16, vectors and what is small are F32. There is
no vocabulary: both sides are given token ids.
"""

import json
import struct
import sys
from pathlib import Path

import gguf
import numpy as np

TYPES = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8": gguf.GGMLQuantizationType.Q8_0,
    "q4": gguf.GGMLQuantizationType.Q4_0,
}
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4": gguf.LlamaFileType.MOSTLY_Q4_0,
}


def tensors(checkpoint):
    """Yields the name and the f32 numbers of each tensor, one at a time."""
    for path in sorted(Path(checkpoint).glob("*.safetensors")):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            for name, entry in header.items():
                if name == "__metadata__":
                    continue
                start, end = entry["data_offsets"]
                file.seek(8 + length + start)
                yield name, numbers(entry["dtype"], file.read(end - start)).reshape(entry["shape"])


def numbers(dtype, data):
    """Bytes as f32."""
    if dtype == "BF16":
        return (np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, dtype={"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)


LLAMA = {
    "embed_tokens": "token_embd",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "norm": "output_norm",
    "lm_head": "output",
}

MAMBA = {
    "embeddings": "token_embd",
    "norm": "attn_norm",
    "norm_f": "output_norm",
    "lm_head": "output",
    "mixer.in_proj": "ssm_in",
    "mixer.conv1d": "ssm_conv1d",
    "mixer.x_proj": "ssm_x",
    "mixer.dt_proj": "ssm_dt",
    "mixer.out_proj": "ssm_out",
    "mixer.norm": "ssm_norm",
}


def rename(name, table):
    """`model.layers.3.mlp.up_proj.weight` becomes `blk.3.ffn_up.weight`."""
    path = name.split(".")
    if path[0] in ("model", "backbone"):
        path = path[1:]
    prefix = ""
    if path[0] == "layers":
        prefix, path = f"blk.{path[1]}.", path[2:]
    bare = {"mixer.A_log": "ssm_a", "mixer.D": "ssm_d", "mixer.dt_bias": "ssm_dt.bias"}
    if ".".join(path) in bare:
        return prefix + bare[".".join(path)]
    return f"{prefix}{table['.'.join(path[:-1])]}.{path[-1]}"


def turn_neighbours(numbers, heads):
    """Rotary positions turn the halves of a head in transformers, and neighbours in llama.cpp's llama."""
    halves = numbers.reshape(heads, 2, numbers.shape[0] // heads // 2, *numbers.shape[1:])
    return halves.swapaxes(1, 2).reshape(numbers.shape)


def arrange(name, numbers, config):
    """Brings a tensor into the form that llama.cpp expects."""
    if config["model_type"] in ("llama", "mistral"):
        if ".attn_q." in name:
            numbers = turn_neighbours(numbers, config["num_attention_heads"])
        if ".attn_k." in name:
            numbers = turn_neighbours(numbers, config["num_key_value_heads"])
    if name.endswith("ssm_a"):
        numbers = -np.exp(numbers)
    if name.endswith("ssm_conv1d.weight"):
        numbers = numbers.reshape(numbers.shape[0], -1)
    if config["model_type"] == "mamba2":
        if name.endswith(("ssm_a", "ssm_d")):
            numbers = numbers.reshape(-1, 1)
        if name.endswith("ssm_norm.weight"):
            numbers = numbers.reshape(config["n_groups"], -1)
    return numbers


def describe(writer, config):
    """Writes the hyperparameters."""
    kind, d_model = config["model_type"], config["hidden_size"]
    writer.add_embedding_length(d_model)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    if "mamba" not in kind:
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        head_dim = config.get("head_dim") or d_model // config["num_attention_heads"]
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_rope_dimension_count(head_dim)
        rope = config.get("rope_parameters") or config
        assert rope.get("rope_type", "default") == "default", "stretched rotations are not written"
        writer.add_rope_freq_base(rope["rope_theta"])
        return
    writer.add_context_length(1 << 20)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_layer_norm_rms_eps(config["layer_norm_epsilon"])
    writer.add_ssm_conv_kernel(config["conv_kernel"])
    writer.add_ssm_inner_size(config["expand"] * d_model)
    writer.add_ssm_state_size(config["state_size"])
    if kind == "mamba2":
        writer.add_ssm_time_step_rank(config["num_heads"])
        writer.add_ssm_group_count(config["n_groups"])
    else:
        writer.add_ssm_time_step_rank(config["time_step_rank"])
        writer.add_ssm_dt_b_c_rms(False)


def main(checkpoint, out, quant):
    config = json.loads((Path(checkpoint) / "config.json").read_text())
    kind = config["model_type"]
    # Tensors wait in a temporary file, so that a 7B model needs little memory.
    writer = gguf.GGUFWriter(out, "llama" if kind == "mistral" else kind, use_temp_file=True)
    describe(writer, config)
    writer.add_file_type(FILE_TYPES[quant])
    for name, numbers in tensors(checkpoint):
        if name == "lm_head.weight" and config.get("tie_word_embeddings", "mamba" in kind):
            continue
        name = rename(name, MAMBA if "mamba" in kind else LLAMA)
        numbers = arrange(name, numbers, config)
        small = numbers.ndim < 2 or name.endswith(("ssm_a", "ssm_d", "conv1d.weight", "ssm_norm.weight"))
        if small or quant == "f32":
            writer.add_tensor(name, numbers.astype(np.float32))
        elif quant == "f16" or numbers.shape[1] % 32 != 0:
            writer.add_tensor(name, numbers.astype(np.float16))
        else:
            packed = gguf.quants.quantize(numbers, TYPES[quant])
            writer.add_tensor(name, packed, raw_dtype=TYPES[quant])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
