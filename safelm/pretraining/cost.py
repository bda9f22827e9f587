"""What training a shape costs: parameters, arithmetic, memory. Formulas with their sources; nothing
is measured.
"""

from dataclasses import dataclass

from specs.shape import Shape


@dataclass(frozen=True)
class Gpu:
    """A GPU's dense bfloat16 arithmetic (FLOP/s) and its memory (bytes), as its data sheet has
    them.
    """

    flops: float
    memory: int


GPUS = {
    "a100": Gpu(312e12, 80 << 30),
    "h100": Gpu(989.4e12, 80 << 30),
    "h200": Gpu(989.4e12, 141 << 30),
}


def parameters(shape: Shape) -> int:
    """The parameters of a Llama; a tied head is the embedding, counted once."""
    keys = shape.kv_heads * (shape.hidden // shape.heads)
    attention = 2 * shape.hidden * (shape.hidden + keys)
    layer = attention + 3 * shape.hidden * shape.ffn + 2 * shape.hidden
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    return embeddings + shape.layers * layer + shape.hidden


def flops_per_token(shape: Shape, sequence: int) -> float:
    """Forward and backward of one token: 6 a multiplying parameter, and 12 · layers · width ·
    sequence of attention.

    The convention of PaLM (arXiv 2204.02311, appendix B), which model FLOP utilisation (MFU) is
    counted with."""
    multiplying = (
        parameters(shape) if shape.tied else parameters(shape) - shape.vocabulary * shape.hidden
    )
    return 6 * multiplying + 12 * shape.layers * shape.hidden * sequence


def memory(shape: Shape, sequence: int, rows: int, tp: int) -> dict[str, float]:
    """Bytes on a GPU at the peak of a step with `rows` rows at once.

    bfloat16: 2 bytes a weight and a gradient, 4 each for the float32 copy, accumulated gradient and
    both moments. Activations are kept, with flash attention, at 34 bytes a layer, token and unit of
    width (arXiv 2205.05198, eq. 2 without its quadratic term); logits are there in bfloat16, in
    float32 and as their gradient."""
    wide = shape.dtype == "float32"
    tokens = rows * sequence
    return {
        "weights and gradients": parameters(shape) * (8 if wide else 4) / tp,
        "optimizer": parameters(shape) * (8 if wide else 16) / tp,
        "activations": 34 * tokens * shape.hidden * shape.layers * (2 if wide else 1) / tp,
        "logits": 10 * tokens * shape.vocabulary / tp,
    }
