"""A prompt and its beams as one tree of tokens: each token is forwarded once, none is reordered.

A row holds one prompt. Its cache has two parts: a scratch, where the tokens now being tried are
written side by side, and slots, which hold the prompt and the tokens of live beams in any order (a
key carries its own position). A mask over slots says what a beam has read. So a choice among beams
moves masks; the chosen tokens' keys and values alone are copied, from the scratch into slots that
no live beam reads any more. Transformers' own caches keep keys in the order of the text, and would
have to copy every beam's prefix at every step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer

# Slots added when a row runs out of them: few copies, and little that attention reads in vain.
GROWTH = 32


class TreeLayer(CacheLayerMixin):
    """One layer's keys and values: `scratch` places for tokens being tried, then the slots."""

    def __init__(self, prompts: DynamicLayer, scratch: int) -> None:
        super().__init__()
        assert prompts.keys is not None and prompts.values is not None  # the prompts have been read
        self.keys: Tensor = pad(prompts.keys, (0, 0, scratch, 0))
        self.values: Tensor = pad(prompts.values, (0, 0, scratch, 0))
        self.scratch = scratch
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the layer is made from the prompt's keys and values."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the tokens being tried into the scratch; return all keys and values."""
        count = key_states.shape[2]
        self.keys[:, :, :count] = key_states
        self.values[:, :, :count] = value_states
        return self.keys, self.values

    def adopt(self, rows: Tensor, chosen: Tensor, slots: Tensor) -> None:
        """Copy the chosen tokens from the scratch into slots."""
        places = slots + self.scratch
        self.keys[rows, :, places] = self.keys[rows, :, chosen]
        self.values[rows, :, places] = self.values[rows, :, chosen]

    def grow(self) -> None:
        """Add empty slots at the end."""
        self.keys = pad(self.keys, (0, 0, 0, GROWTH))
        self.values = pad(self.values, (0, 0, 0, GROWTH))

    def select(self, rows: Tensor) -> None:
        """Keep only these rows."""
        self.keys, self.values = self.keys[rows], self.values[rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Give length and offset of the keys; only models that ignore a 4-D mask call this."""
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        """Count the slots."""
        return self.keys.shape[2] - self.scratch

    def get_max_length(self) -> int:
        """Give no maximum, which transformers writes as -1."""
        return -1


class TokenTree:
    """The tokens that each prompt of a batch and its beams have read, and the next forward pass."""

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], scratch: int
    ) -> None:
        """Read every prompt but its last token, which is the first to be forwarded in the tree."""
        self.model, self.scratch = model, scratch
        lengths = torch.tensor([len(prompt) - 1 for prompt in prompts], device=model.device)
        longest = max(1, int(lengths.max()))
        # Padded on the right: causal attention never looks there, and the padding's slots are free
        # for later tokens.
        tokens = [[*prompt[:-1], *[0] * (longest + 1 - len(prompt))] for prompt in prompts]
        cache = DynamicCache()
        places = torch.arange(longest, device=model.device).expand(len(prompts), -1)
        model.base_model(
            input_ids=torch.tensor(tokens, device=model.device),
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
        )
        layers = (layer for layer in cache.layers if isinstance(layer, DynamicLayer))
        self.layers = [TreeLayer(layer, scratch) for layer in layers]
        # Of the tokens to be forwarded next.
        self.position = lengths
        # (rows, beams, slots): the slots that a beam has read.
        self.read = (places < lengths[:, None])[:, None]
        self.tried = self.read

    def forward(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Compute the logits after each token (rows, tokens).

        A token sees what its parent beam has read, and itself.
        """
        rows, count = tokens.shape
        slots = self.read.shape[2]
        self.tried = self.read.gather(1, parents[..., None].expand(-1, -1, slots))
        itself = torch.eye(count, self.scratch, dtype=torch.bool, device=tokens.device)
        seen = torch.cat([itself.expand(rows, -1, -1), self.tried], dim=2)
        mask = torch.zeros(seen.shape, dtype=self.model.dtype, device=tokens.device)
        mask.masked_fill_(~seen, torch.finfo(self.model.dtype).min)
        return self.model(
            input_ids=tokens,
            position_ids=self.position[:, None].expand(-1, count),
            attention_mask=mask[:, None],
            past_key_values=Cache(layers=list(self.layers)),
            use_cache=True,
        ).logits

    def adopt(self, chosen: Tensor, alive: Tensor) -> None:
        """Make `chosen` (rows, beams) of the tokens just forwarded the beams.

        Beams that are not alive read no more.
        """
        rows = torch.arange(len(chosen), device=chosen.device)[:, None]
        self.read = self.tried[rows, chosen] & alive[..., None]
        slots = self.free_slots(chosen.shape[1])
        for layer in self.layers:
            layer.adopt(rows, chosen, slots)
        self.read.scatter_(2, slots[..., None], alive[..., None])
        self.position = self.position + 1

    def free_slots(self, count: int) -> Tensor:
        """Find `count` slots of each row that no live beam has read, adding slots where needed."""
        used = self.read.any(dim=1)
        while used.shape[1] - int(used.sum(dim=1).max()) < count:
            self.read, used = pad(self.read, (0, GROWTH)), pad(used, (0, GROWTH))
            for layer in self.layers:
                layer.grow()
        return used.to(torch.uint8).argsort(dim=1, stable=True)[:, :count]

    def select(self, rows: Tensor) -> None:
        """Keep only these prompts."""
        self.position, self.read = self.position[rows], self.read[rows]
        for layer in self.layers:
            layer.select(rows)
