"""A stand-in for flash-attn in plain torch: the names Nanotron 0.4 imports, on any device, where it
is missing.

Nanotron imports them at models/llama.py:20-25, models/starcoder2.py:27-31 and nn/layer_norm.py:2;
there is no wheel of flash-attn. Installed in the training process alone: transformers and vLLM must
never take it for the real one."""

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
    """Attention within each of the sequences that lie one after another in (tokens, heads, width)."""
    if dropout_p or return_attn_probs:
        raise ValueError("dropout and attention weights need the real flash-attn; install it")
    count = len(cu_seqlens_q) - 1
    if (
        len(q) == count * max_seqlen_q and len(k) == count * max_seqlen_k
    ):  # all as long as the longest
        q, k, v = (x.view(count, -1, *x.shape[1:]) for x in (q, k, v))
        return _attention(q, k, v, causal, softmax_scale).flatten(0, 1)
    lengths_q, lengths_k = cu_seqlens_q.diff().tolist(), cu_seqlens_k.diff().tolist()
    pieces = zip(q.split(lengths_q), k.split(lengths_k), v.split(lengths_k), strict=True)
    return torch.cat(
        [_attention(a[None], b[None], c[None], causal, softmax_scale)[0] for a, b, c in pieces]
    )


def _attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scale: float | None
) -> torch.Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=causal, scale=scale, enable_gqa=grouped
    ).transpose(1, 2)


class RotaryEmbedding(torch.nn.Module):
    """Rotary positions on queries and keys, with flash-attn's arguments. Angles are float32 always."""

    def __init__(self, dim: int, base: float = 10000.0, interleaved: bool = False) -> None:
        super().__init__()
        self.dim, self.base, self.interleaved = dim, base, interleaved
        self._cached: tuple[torch.Tensor, torch.Tensor] | None = None

    def _angles(self, length: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cached = self._cached
        if cached is None or len(cached[0]) < length or cached[0].device != like.device:
            powers = (
                torch.arange(0, self.dim, 2, dtype=torch.float32, device=like.device) / self.dim
            )
            places = torch.arange(length, dtype=torch.float32, device=like.device)
            angles = torch.outer(places, 1.0 / self.base**powers)[:, None]
            cached = self._cached = (angles.cos(), angles.sin())
        return cached[0][:length], cached[1][:length]

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (batch, positions, heads, dim): pairs are neighbours when interleaved, else the
        halves, as in Llama.
        """
        cos, sin = self._angles(x.shape[1], x)
        wide = x.float()
        if self.interleaved:
            a, b = wide[..., ::2], wide[..., 1::2]
            return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2).to(x.dtype)
        a, b = wide.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)

    def forward(self, qkv: torch.Tensor, kv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries, and keys stacked with values (batch, positions, 2, heads, dim); the values are
        not turned.
        """
        return self.rotate(qkv), torch.stack((self.rotate(kv[:, :, 0]), kv[:, :, 1]), 2)


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
    """Layer or RMS norm in float32."""
    if residual is not None or dropout_p or prenorm:
        raise ValueError("residual, dropout and prenorm need the real flash-attn; install it")
    wide, shape = x.float(), x.shape[-1:]
    if is_rms_norm:
        return F.rms_norm(wide, shape, weight.float(), eps).to(x.dtype)
    return F.layer_norm(
        wide, shape, weight.float(), None if bias is None else bias.float(), eps
    ).to(x.dtype)


def _missing(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(
            f"{name} needs the real flash-attn; generate with the converted Hugging Face model"
        )

    return refuse


def install() -> bool:
    """Put the stand-in where `import flash_attn` finds it, unless there is a real one; whether it
    was put there.
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
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        module.__dict__.update(values)
        sys.modules[name] = module
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
    return True
