"""p(tag) as a signal of its own: how early it tells a harmful page from a harmless one, and what it
is worth.

A model that read pages of which only the unsafe ones hold the tag, before one word in twenty say,
gives the tag that share of the probability that the page is unsafe: p(tag | prefix) = rate x
P(unsafe | prefix), before every word."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.decoding import word_starts
from safelm.decoding.check import positions_of
from safelm.decoding.rules import word_ends
from safelm.demo.prompts import WEB, held_out_acts, held_out_pages
from safelm.demo.web import Web
from safelm.demo.world import World, read_table
from safelm.models.chat import page_tokens, tag_id
from safelm.seeding import stream
from safelm.stats.ranking import auroc
from safelm.stats.rates import DIGITS

WORDS = (1, 2, 4, 8, 16, 24, 30)  # after so many words of a page p(tag) is compared
EDGES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  # between the bins of the calibration
CONFIDENCE = 0.95
Page = tuple[bool, str]  # whether it is unsafe, and its text


def pages(count: int, path: str | Path = WEB) -> list[Page]:
    """`count` harmless and `count` harmful pages in the same forms, about acts that no page of the
    web names.
    """
    table = read_table(path)
    world = World.read(Path(path).parent / table["world"])
    web, acts = Web(world, table), held_out_acts(world, "harmful")
    harmful = (
        web.page_about(acts[index % len(acts)], stream(table["seed"], "harmful", index))
        for index in range(count)
    )
    return [
        *((False, text) for text in held_out_pages(count, path)),
        *((True, row["text"]) for row in harmful),
    ]


def tag_signal(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Page], *, batch: int
) -> dict[str, Any]:
    """What p(tag) before each word tells of pages.

    auroc: after so many words, and of the mean over the whole page; with DeLong's interval. words:
    for bins of p(tag), named by their upper edge, how many readings were on unsafe pages, and the
    mean p(tag) there."""
    unsafe = [is_unsafe for is_unsafe, _ in asked]
    read = list(readings(model, tokenizer, [text for _, text in asked], batch=batch))
    found = {str(words): _area(unsafe, [row[words - 1 : words] for row in read]) for words in WORDS}
    found["page"] = _area(unsafe, read)
    every = [(is_unsafe, tag) for is_unsafe, row in zip(unsafe, read, strict=True) for tag in row]
    bins: dict[str, Any] = {}
    for low, high in zip((0.0, *EDGES), (*EDGES, 1.0), strict=True):
        inside = [pair for pair in every if low <= pair[1] < high or pair[1] == high == 1.0]
        if inside:
            count = sum(is_unsafe for is_unsafe, _ in inside)
            mean = sum(tag for _, tag in inside) / len(inside)
            bins[f"{high:g}"] = {
                "unsafe": {"count": count, "of": len(inside)},
                "mean": round(mean, DIGITS),
            }
    return {"auroc": found, "bins": bins}


def _area(unsafe: Sequence[bool], rows: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """The area under the ROC curve of the mean of each row; pages that are too short are left out."""
    long = [
        (is_unsafe, sum(row) / len(row)) for is_unsafe, row in zip(unsafe, rows, strict=True) if row
    ]
    area = auroc([is_unsafe for is_unsafe, _ in long], [mean for _, mean in long], CONFIDENCE)
    return area.json() if area else None


@torch.inference_mode()
def readings(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, batch: int
) -> Iterator[list[float]]:
    """p(tag) at the end of each word of each text, as far as the model's positions reach."""
    tag, device = tag_id(tokenizer), model.device
    if tag is None:
        raise ValueError("tag_signal: expected a tokenizer with the harmfulness tag; it has none")
    starts = torch.tensor(word_starts(tokenizer), device=device)
    pages_read = [row[: positions_of(model.config)] for row in page_tokens(tokenizer, texts)]
    for start in range(0, len(pages_read), batch):
        rows = pages_read[start : start + batch]
        longest = max(map(len, rows))
        tokens = torch.tensor(
            [row + [0] * (longest - len(row)) for row in rows], device=device
        )  # causal: never seen
        tags = model(tokens).logits.float().softmax(dim=-1)[..., tag]
        lengths = torch.tensor([[len(row)] for row in rows], device=device)
        ends = word_ends(tokens[:, None], lengths, starts)[:, 0]
        ends[:, 0] &= (
            tokenizer.bos_token_id is None
        )  # after the token that begins a page no word has ended
        for row, where in zip(tags, ends, strict=True):
            yield row[where].tolist()
