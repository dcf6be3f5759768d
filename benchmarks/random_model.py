"""Write a checkpoint of random weights, far larger than any cache, to measure streams with.

    python benchmarks/random_model.py OUT.gguf [--layers 16] [--hidden 2048] ...   # about 1B parameters in Q4_0
    python benchmarks/rows.py -m OUT.gguf

The sizes are those of a Llama with 1B parameters. It has no tokenizer: prompts are token ids.
"""

import argparse

import gguf
import numpy as np
from rich.progress import track


def random_q4_0(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Blocks of 32 random weights of standard deviation about 1 / sqrt(columns): (rows, bytes per row)."""
    blocks = generator.integers(0, 256, (rows * columns // 32, 18), dtype=np.uint8)
    scale = np.float16(1 / (4.6 * np.sqrt(columns)))  # nibbles minus 8 have a standard deviation of 4.6
    blocks[:, :2] = np.frombuffer(scale.tobytes(), dtype=np.uint8)
    return blocks.reshape(rows, -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    for name, default in (
        ("layers", 16),
        ("hidden", 2048),
        ("heads", 32),
        ("kv-heads", 8),
        ("intermediate", 8192),
        ("vocabulary", 32000),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    d, f, kv = options.hidden, options.intermediate, options.hidden // options.heads * options.kv_heads
    writer = gguf.GGUFWriter(options.out, "llama")
    writer.add_name("random")
    writer.add_block_count(options.layers)
    writer.add_context_length(8192)
    writer.add_embedding_length(d)
    writer.add_feed_forward_length(f)
    writer.add_head_count(options.heads)
    writer.add_head_count_kv(options.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(options.vocabulary)
    shapes = {"attn_q": (d, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, d)}
    shapes |= {"ffn_gate": (f, d), "ffn_up": (f, d), "ffn_down": (d, f)}

    def add(name: str, rows: int, columns: int) -> None:
        data = random_q4_0(generator, rows, columns)
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    add("token_embd.weight", options.vocabulary, d)
    add("output.weight", options.vocabulary, d)
    writer.add_tensor("output_norm.weight", np.ones(d, dtype=np.float32))
    for layer in track(range(options.layers), "making layers"):
        for name, (rows, columns) in shapes.items():
            add(f"blk.{layer}.{name}.weight", rows, columns)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(d, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=True)
    writer.close()


if __name__ == "__main__":
    main()
