"""Writes a checkpoint of `cargo xtask random-checkpoint` as GGUF, in the format next to Dynamax's.

    write_gguf.py CHECKPOINT OUT.gguf q4|q8

q4 becomes Q4_0 and q8 Q8_0: both have blocks of 32 weights and an f16 scale, as ours. What cannot be cut into such blocks
is F16, and what Dynamax keeps in f32 is F32.
"""

import json
import struct
import sys
from pathlib import Path

import gguf
import numpy as np

TYPES = {"q4": gguf.GGMLQuantizationType.Q4_0, "q8": gguf.GGMLQuantizationType.Q8_0}
FILE_TYPES = {"q4": gguf.LlamaFileType.MOSTLY_Q4_0, "q8": gguf.LlamaFileType.MOSTLY_Q8_0}


def tensors(checkpoint):
    """Yields the name and the f32 numbers of each tensor, one at a time."""
    for path in sorted(Path(checkpoint).glob("*.safetensors")):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            for name, entry in header.items():
                if name == "__metadata__":
                    continue
                assert entry["dtype"] == "BF16", f"{path}: {name} is {entry['dtype']}, not BF16"
                start, end = entry["data_offsets"]
                file.seek(8 + length + start)
                bits = np.frombuffer(file.read(end - start), dtype="<u2").astype(np.uint32) << 16
                yield name, bits.view(np.float32).reshape(entry["shape"])


LLAMA = {
    "embed_tokens": "token_embd",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
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


def arrange(name, numbers, config):
    """Brings a tensor into the shape that llama.cpp expects; the numbers stay in their order."""
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
    if kind in ("llama", "mistral"):
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_dimension_count(config["head_dim"])
        writer.add_rope_freq_base(config["rope_theta"])
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
    transformer = kind in ("llama", "mistral")
    # Tensors wait in a temporary file, so that a 7B model needs little memory.
    writer = gguf.GGUFWriter(out, "llama" if transformer else kind, use_temp_file=True)
    describe(writer, config)
    writer.add_file_type(FILE_TYPES[quant])
    for name, numbers in tensors(checkpoint):
        name = rename(name, LLAMA if transformer else MAMBA)
        numbers = arrange(name, numbers, config)
        small = numbers.ndim < 2 or name.endswith(("ssm_a", "ssm_d", "conv1d.weight", "ssm_norm.weight"))
        if small:
            writer.add_tensor(name, numbers.astype(np.float32))
        elif numbers.shape[1] % 32 != 0:
            writer.add_tensor(name, numbers.astype(np.float16))
        else:
            packed = gguf.quants.quantize(numbers, TYPES[quant])
            writer.add_tensor(name, packed, raw_dtype=TYPES[quant])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main(*sys.argv[1:])
