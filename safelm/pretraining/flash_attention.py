"""A substitute for flash-attn in plain PyTorch, with the names that Nanotron 0.4 imports.

Nanotron imports them at models/llama.py:20-25, models/starcoder2.py:27-31 and nn/layer_norm.py:2,
but flash-attn publishes no wheel. Only the training process installs the substitute, because
transformers and vLLM must not take it for the real package.
"""

import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    return_attn_probs: bool = False,
) -> torch.Tensor:
    """Attend within each of several sequences, concatenated to (tokens, heads, width)."""
    if dropout_p or return_attn_probs:
        raise ValueError("dropout and attention weights need the real flash-attn; install it")
    count = len(cu_seqlens_q) - 1
    # Sequences of equal length, as packed rows are, need one call.
    if len(q) == count * max_seqlen_q and len(k) == count * max_seqlen_k:
        q, k, v = (x.unflatten(0, (count, -1)) for x in (q, k, v))
        return _attention(q, k, v, causal, softmax_scale).flatten(0, 1)
    q_lengths = cu_seqlens_q.diff().tolist()
    k_lengths = cu_seqlens_k.diff().tolist()
    attended = []
    sequences = zip(q.split(q_lengths), k.split(k_lengths), v.split(k_lengths), strict=True)
    for queries, keys, values in sequences:
        batch = _attention(queries[None], keys[None], values[None], causal, softmax_scale)
        attended.append(batch[0])
    return torch.cat(attended)


def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    causal: bool,
    scale: float | None,
) -> torch.Tensor:
    # PyTorch has heads before positions, flash-attn positions before heads.
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    has_grouped_queries = q.shape[1] != k.shape[1]
    attended = F.scaled_dot_product_attention(
        q,
        k,
        v,
        is_causal=causal,
        scale=scale,
        enable_gqa=has_grouped_queries,
    )
    return attended.transpose(1, 2)


class RotaryEmbedding(torch.nn.Module):
    """Rotary positions of queries and keys, with flash-attn's arguments and float32 angles."""

    def __init__(self, dim: int, base: float = 10000.0, interleaved: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.base = base
        self.interleaved = interleaved
        self._cached: tuple[torch.Tensor, torch.Tensor] | None = None

    def _angles(self, length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines of shape (length, 1, dim / 2)."""
        cached = self._cached
        if cached is None or len(cached[0]) < length or cached[0].device != device:
            steps = torch.arange(0, self.dim, 2, dtype=torch.float32, device=device)
            positions = torch.arange(length, dtype=torch.float32, device=device)
            frequencies = 1.0 / self.base ** (steps / self.dim)
            angles = torch.outer(positions, frequencies)[:, None]
            cached = self._cached = (angles.cos(), angles.sin())
        return cached[0][:length], cached[1][:length]

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        """Rotate queries or keys of shape (batch, positions, heads, dim)."""
        cos, sin = self._angles(x.shape[1], x.device)
        wide = x.float()
        # A pair is two neighbours if interleaved, else one of each half, as in Llama.
        if self.interleaved:
            a = wide[..., ::2]
            b = wide[..., 1::2]
        else:
            a, b = wide.chunk(2, -1)
        first = a * cos - b * sin
        second = b * cos + a * sin
        if self.interleaved:
            return torch.stack((first, second), -1).flatten(-2).to(x.dtype)
        return torch.cat((first, second), -1).to(x.dtype)

    def forward(self, qkv: torch.Tensor, kv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotate queries, and the keys of stacked (batch, positions, 2, heads, dim)."""
        keys = kv[:, :, 0]
        values = kv[:, :, 1]
        return self.rotate(qkv), torch.stack((self.rotate(keys), values), 2)


def layer_norm_fn(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    prenorm: bool = False,
    is_rms_norm: bool = False,
    **_: Any,
) -> torch.Tensor:
    """Apply layer or RMS norm in float32."""
    # Nanotron also passes residual_in_fp32 and return_dropout_mask, which change nothing then.
    if residual is not None or dropout_p or prenorm:
        raise ValueError("residual, dropout and prenorm need the real flash-attn; install it")
    wide = x.float()
    shape = x.shape[-1:]
    if is_rms_norm:
        return F.rms_norm(wide, shape, weight.float(), eps).to(x.dtype)
    wide_bias = None if bias is None else bias.float()
    return F.layer_norm(wide, shape, weight.float(), wide_bias, eps).to(x.dtype)


def _missing(name: str) -> Any:
    # Nanotron imports these by name, but calls them only to generate text.
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(
            f"{name} needs the real flash-attn; generate with the converted Hugging Face model"
        )

    return refuse


def install() -> bool:
    """Make `import flash_attn` find the substitute, unless the real package is installed.

    Returns:
        Whether the substitute was installed.
    """
    if importlib.util.find_spec("flash_attn") is not None:
        return False
    names: dict[str, dict[str, Any]] = {
        "flash_attn": {"__version__": "0+torch"},
        "flash_attn.bert_padding": {name: _missing(name) for name in ("unpad_input", "pad_input")},
        "flash_attn.flash_attn_interface": {
            "flash_attn_varlen_func": flash_attn_varlen_func,
            "flash_attn_with_kvcache": _missing("flash_attn_with_kvcache"),
        },
        "flash_attn.layers": {},
        "flash_attn.layers.rotary": {"RotaryEmbedding": RotaryEmbedding},
        "flash_attn.ops": {},
        "flash_attn.ops.triton": {},
        "flash_attn.ops.triton.layer_norm": {"layer_norm_fn": layer_norm_fn},
    }
    for name, values in names.items():
        module = ModuleType(name)
        # find_spec raises ValueError for a module without a spec.
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        # Makes it a package, so that its submodules can be imported.
        module.__path__ = []
        module.__dict__.update(values)
        sys.modules[name] = module
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
    return True
