"""Formulas for the cost of training a shape: parameters, FLOPs and memory."""

from dataclasses import dataclass

from specs.shape import Shape


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet: dense bfloat16 FLOP/s, and memory in bytes."""

    flops: float
    memory: int


GPUS = {
    "a100": Gpu(312e12, 80 << 30),
    "h100": Gpu(989.4e12, 80 << 30),
    "h200": Gpu(989.4e12, 141 << 30),
    # Of a server: 32 float32 operations a cycle at 3 GHz.
    "cpu_core": Gpu(96e9, 4 << 30),
}


def parameters(shape: Shape) -> int:
    """Count the parameters of a Llama; a head tied to the embedding adds none."""
    # Queries and outputs are as wide as the model; keys and values may be narrower.
    key_width = shape.kv_heads * (shape.hidden // shape.heads)
    attention = 2 * shape.hidden * (shape.hidden + key_width)
    feed_forward = 3 * shape.hidden * shape.ffn
    norms = 2 * shape.hidden
    embeddings = shape.vocab_size * shape.hidden
    if not shape.tied:
        embeddings *= 2
    layer = attention + feed_forward + norms
    final_norm = shape.hidden
    return embeddings + shape.layers * layer + final_norm


def flops_per_token(shape: Shape, sequence: int) -> float:
    """Count the FLOPs of one token, forward and backward, as model FLOP utilisation (MFU) does."""
    multiplied = parameters(shape)
    if not shape.tied:
        # An untied embedding is only looked up; it takes part in no matrix product.
        multiplied -= shape.vocab_size * shape.hidden
    # The formula of PaLM (arXiv 2204.02311, appendix B).
    attended = shape.layers * shape.hidden * sequence
    return 6 * multiplied + 12 * attended


def memory(shape: Shape, sequence: int, rows: int, tp: int) -> dict[str, float]:
    """Estimate the bytes on a GPU at the peak of a step with `rows` rows at once.

    Args:
        shape: the architecture.
        sequence: the positions of a row.
        rows: the micro-batch.
        tp: tensor-parallel ranks, which divide all of this memory among them.
    """
    is_float32 = shape.dtype == "float32"
    # In bfloat16 a weight and its gradient take 2 bytes each. The optimizer keeps a float32 copy,
    # the accumulated gradient and two moments, 4 bytes each; in float32 only the moments.
    weight_bytes, state_bytes = (8, 8) if is_float32 else (4, 16)
    # Bytes for each token, layer and hidden unit: arXiv 2205.05198, eq. 2, without its quadratic
    # term, which flash attention avoids.
    activation_bytes = 68 if is_float32 else 34
    tokens = rows * sequence
    size = parameters(shape)
    return {
        "weights and gradients": size * weight_bytes / tp,
        "optimizer": size * state_bytes / tp,
        "activations": activation_bytes * tokens * shape.hidden * shape.layers / tp,
        # 10 bytes a logit: 2 in bfloat16, 4 in float32 and 4 for the gradient.
        "logits": 10 * tokens * shape.vocab_size / tp,
    }
