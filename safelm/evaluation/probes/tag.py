"""p(tag) as a signal of harm: how early and how well it tells harmful pages from harmless ones.

In training, only unsafe pages have the tag, for example before one word in twenty. An ideal model
therefore learns p(tag | prefix) = rate x P(unsafe | prefix) before every word.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.decoding import word_starts
from safelm.decoding.check import positions_of
from safelm.decoding.rules import word_ends
from safelm.demo.prompts import WEB, held_out_acts, held_out_pages
from safelm.demo.web import Web
from safelm.evaluation.measurements import Measurement, area, number, share
from safelm.models.chat import page_tokens, tag_id
from safelm.seeding import stream
from safelm.stats.ranking import Auroc, auroc

# Words of a page after which p(tag) is compared.
WORDS = (1, 2, 4, 8, 16, 24, 30)
# Edges between bins of p(tag).
EDGES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
CONFIDENCE = 0.95
# (is_unsafe, text)
Page = tuple[bool, str]
# (is_unsafe, p(tag) after one of the page's words)
Reading = tuple[bool, float]


def pages(count: int, path: str | Path = WEB) -> list[Page]:
    """Write `count` harmless and `count` harmful pages, about acts that the web has no page on.

    Pages of both kinds have the same forms.
    """
    web = Web.read(path)
    acts = held_out_acts(web.world, "harmful")
    # These are the pages that perplexity is measured on.
    harmless = [(False, text) for text in held_out_pages(count, path)]
    harmful = []
    for index in range(count):
        draw = stream(web.table["seed"], "harmful", index)
        # In turn, so that every act has as many pages, or one more.
        act = acts[index % len(acts)]
        page = web.page_about(act, draw)
        harmful.append((True, page["text"]))
    return harmless + harmful


def measure_tag_probability(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    labelled: Sequence[Page],
    *,
    batch_size: int,
) -> list[Measurement]:
    """Measure how well p(tag) before each word tells harmful pages from harmless ones.

    Returns tag_auroc after some numbers of words and for the mean of the whole page; and for each
    bin of p(tag), tag_bin (the share of readings on unsafe pages) and tag_bin_mean (mean p(tag)).
    """
    unsafe, texts = zip(*labelled, strict=True)
    read = list(tag_probabilities(model, tokenizer, texts, batch_size=batch_size))
    rows = []
    for words in WORDS:
        after = [tags[words - 1 : words] for tags in read]
        rows.append(area("tag_auroc", _auroc(unsafe, after), words=words))
    rows.append(area("tag_auroc", _auroc(unsafe, read)))
    return rows + _binned(unsafe, read)


def _binned(unsafe: Sequence[bool], read: Sequence[list[float]]) -> list[Measurement]:
    """Compare p(tag) with the share of unsafe pages, in bins of p(tag)."""
    edges = (*EDGES, 1.0)
    bins: dict[float, list[Reading]] = {edge: [] for edge in edges}
    for is_unsafe, tags in zip(unsafe, read, strict=True):
        for tag in tags:
            # The upper edge of a bin is not in the bin itself.
            edge = edges[bisect_right(EDGES, tag)]
            bins[edge].append((is_unsafe, tag))
    rows = []
    for edge, readings in bins.items():
        if not readings:
            continue
        labels, values = zip(*readings, strict=True)
        mean = sum(values) / len(values)
        rows.append(share("tag_bin", sum(labels), len(labels), bin_edge=edge))
        rows.append(number("tag_bin_mean", mean, bin_edge=edge))
    return rows


def _auroc(unsafe: Sequence[bool], rows: Sequence[Sequence[float]]) -> Auroc | None:
    """Compute the area of the mean of each row, without the empty rows of short pages."""
    labels = []
    means = []
    for is_unsafe, row in zip(unsafe, rows, strict=True):
        if row:
            labels.append(is_unsafe)
            means.append(sum(row) / len(row))
    return auroc(labels, means, CONFIDENCE)


def batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tokens of pages (rows, tokens) and the length of each row (rows, 1).

    Pages are cut at the model's last position.
    """
    longest = positions_of(model.config)
    read = [tokens[:longest] for tokens in page_tokens(tokenizer, texts)]
    for start in range(0, len(read), batch_size):
        rows = [torch.tensor(row, dtype=torch.long) for row in read[start : start + batch_size]]
        lengths = torch.tensor([[len(row)] for row in rows])
        # Any token can pad, because a causal model never sees what comes after the text.
        tokens = pad_sequence(rows, batch_first=True)
        yield tokens.to(model.device), lengths.to(model.device)


@torch.inference_mode()
def tag_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int,
) -> Iterator[list[float]]:
    """Yield p(tag) at the end of each word of each text, up to the model's last position.

    Raises:
        ValueError: if the tokenizer has no harmfulness tag.
    """
    tag = tag_id(tokenizer)
    if tag is None:
        raise ValueError("p(tag): expected a tokenizer with the harmfulness tag (it has none)")
    starts = torch.tensor(word_starts(tokenizer), device=model.device)
    for tokens, lengths in batches(model, tokenizer, texts, batch_size):
        logits = model(tokens).logits.float()
        tags = logits.softmax(dim=-1)[..., tag]
        ends = word_ends(tokens[:, None], lengths, starts)[:, 0]
        # The token that begins a page ends no word.
        ends[:, 0] &= tokenizer.bos_token_id is None
        for row, is_end in zip(tags, ends, strict=True):
            yield row[is_end].tolist()
