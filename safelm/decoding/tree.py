"""Key-value cache for a prompt and its beams as one tree, where each token is forwarded once.

A row of the cache belongs to one prompt and has two parts. The scratch takes the tokens being
tried, side by side. The slots hold the prompt and the tokens of live beams, in any order, because
each key carries its own position. A mask over the slots says which of them a beam reads.

So choosing among beams changes masks. Only the keys and values of chosen tokens are copied, from
the scratch into slots that no live beam reads. Transformers' own caches keep keys in the order of
the text and would have to copy the prefix of every beam at every step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer

from safelm.decoding.beams import row_index

# Slots added when a row runs out of them. More would be copied less often, but attention would read
# more empty slots.
GROWTH = 32


class TreeLayer(CacheLayerMixin):
    """Keys and values of one layer: `scratch` columns for tokens being tried, then the slots."""

    def __init__(self, prompts: DynamicLayer, scratch: int) -> None:
        super().__init__()
        assert prompts.keys is not None and prompts.values is not None  # the prompts have been read
        in_front = (0, 0, scratch, 0)
        self.keys: Tensor = pad(prompts.keys, in_front)
        self.values: Tensor = pad(prompts.values, in_front)
        self.scratch = scratch
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing, because the layer starts with the keys and values of the prompt."""

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Write the tokens being tried into the scratch; return all keys and values."""
        count = key_states.shape[2]
        self.keys[:, :, :count] = key_states
        self.values[:, :, :count] = value_states
        return self.keys, self.values

    def adopt(self, rows: Tensor, chosen: Tensor, slots: Tensor) -> None:
        """Copy the chosen tokens from the scratch into slots."""
        columns = slots + self.scratch
        self.keys[rows, :, columns] = self.keys[rows, :, chosen]
        self.values[rows, :, columns] = self.values[rows, :, chosen]

    def grow(self) -> None:
        """Add empty slots at the end."""
        self.keys = pad(self.keys, (0, 0, 0, GROWTH))
        self.values = pad(self.values, (0, 0, 0, GROWTH))

    def select(self, rows: Tensor) -> None:
        """Keep only these rows."""
        self.keys = self.keys[rows]
        self.values = self.values[rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of the keys; only models that ignore a 4-D mask ask."""
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        """Count the slots."""
        return self.keys.shape[2] - self.scratch

    def get_max_length(self) -> int:
        """Return -1, which for transformers means no maximum."""
        return -1


class TokenTree:
    """Tokens that each prompt of a batch and its beams have read, and the next forward pass.

    `position` (rows) is the position of the tokens to be forwarded next. `visible` (rows, beams,
    slots) marks the slots that a beam reads.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        scratch: int,
    ) -> None:
        """Read every prompt but its last token, which `forward` takes first."""
        self.model = model
        self.scratch = scratch
        read = [prompt[:-1] for prompt in prompts]
        lengths = torch.tensor([*map(len, read)], device=model.device)
        # At least one column, because a model cannot forward no token: this one is padding.
        longest = max(1, int(lengths.max()))
        positions = torch.arange(longest, device=model.device).expand(len(read), -1)
        cache = DynamicCache()
        # Not the whole model, whose head would compute logits that nobody reads.
        model.base_model(
            input_ids=_padded(read, longest, model.device),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        layers = (layer for layer in cache.layers if isinstance(layer, DynamicLayer))
        self.layers = [TreeLayer(layer, scratch) for layer in layers]
        self.position = lengths
        # One beam for each prompt, which reads the prompt but not its padding.
        is_prompt = positions < lengths[:, None]
        self.visible = is_prompt[:, None]
        self.visible_to_tried = self.visible
        # The slots and the position that `restart` returns to.
        self.kept = torch.zeros_like(self.visible)
        self.start = self.position

    def keep(self) -> None:
        """Keep all that was read so far in its slots."""
        self.kept, self.start = self.visible, self.position

    def restart(self, rows: list[int]) -> None:
        """Return to what was kept in some rows."""
        self.visible[rows] = self.kept[rows]
        self.position[rows] = self.start[rows]

    def forward(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Compute the logits after each token (rows, tokens).

        A token sees what its parent beam has read, and itself.
        """
        rows, count = tokens.shape
        slots = self.visible.shape[2]
        by_slot = parents[..., None].expand(-1, -1, slots)
        self.visible_to_tried = self.visible.gather(1, by_slot)
        itself = torch.eye(count, self.scratch, dtype=torch.bool, device=tokens.device)
        seen = torch.cat([itself.expand(rows, -1, -1), self.visible_to_tried], dim=2)
        # An additive mask: 0 where a token sees, the lowest number where it does not.
        dtype = self.model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=tokens.device)
        mask.masked_fill_(~seen, torch.finfo(dtype).min)
        return self.model(
            input_ids=tokens,
            position_ids=self.position[:, None].expand(-1, count),
            attention_mask=mask[:, None],
            past_key_values=Cache(layers=list(self.layers)),
            use_cache=True,
        ).logits

    def adopt(self, chosen: Tensor, alive: Tensor) -> None:
        """Make beams of the tokens `chosen` (rows, beams) among those just forwarded.

        Beams that are not alive read nothing from now on, so that their slots become free.
        """
        rows = row_index(chosen)
        is_alive = alive[..., None]
        self.visible = self.visible_to_tried[rows, chosen] & is_alive
        # After the line above, because slots of beams that are dropped now are free again.
        slots = self.free_slots(chosen.shape[1])
        for layer in self.layers:
            layer.adopt(rows, chosen, slots)
        self.visible.scatter_(2, slots[..., None], is_alive)
        # The live beams of a prompt are equally long, so that one position serves them all.
        self.position = self.position + 1

    def free_slots(self, count: int) -> Tensor:
        """Find `count` slots in each row that no live beam reads, adding slots where needed."""
        used = (self.visible | self.kept).any(dim=1)
        fullest = int(used.sum(dim=1).max())
        while used.shape[1] - fullest < count:
            self.visible = pad(self.visible, (0, GROWTH))
            self.kept = pad(self.kept, (0, GROWTH))
            used = pad(used, (0, GROWTH))
            for layer in self.layers:
                layer.grow()
        # 0 for a free slot sorts before 1 for a used one.
        free_first = used.to(torch.uint8).argsort(dim=1, stable=True)
        return free_first[:, :count]

    def select(self, rows: Tensor) -> None:
        """Keep only these prompts."""
        for name in ("position", "visible", "start", "kept"):
            setattr(self, name, getattr(self, name)[rows])
        for layer in self.layers:
            layer.select(rows)


def _padded(texts: Sequence[Sequence[int]], width: int, device: torch.device) -> Tensor:
    """Stack token lists, padded on the right.

    Causal attention never looks to the right, and slots with padding are free for later tokens.
    """
    rows = []
    for text in texts:
        padding = [0] * (width - len(text))
        rows.append([*text, *padding])
    return torch.tensor(rows, device=device)
