"""The search that every decoder is: Algorithm 2 of the paper (§5), batched, each token forwarded
exactly once.

What the paper leaves open is decided so. The tag is never written: banned, or with `short_circuit`
the prompt stops where the tag is what its likeliest text (or the draw) says next. A candidate that
ends the text is not looked ahead at, for after the end the model reads of something else: it keeps
the p(tag) of its parent, so that ending early is neither safer nor less safe. Ended texts stay in
the beam, unchanged, and are candidates like others; a prompt is done when all its beams have ended.
Log-probabilities are summed without a length penalty."""

import math
from collections.abc import Callable, Collection, Sequence

import numpy
import torch
from torch import Tensor
from transformers import PreTrainedModel

from safelm.decoding import rules
from safelm.decoding.beams import Texts
from safelm.decoding.decoder import Decoded, Decoder
from safelm.decoding.tree import TokenTree

Watch = Callable[[int, list[int], list[float]], None]


class Search:
    """A batch of prompts being continued, one token a step."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: list[list[int]],
        decoder: Decoder,
        new_tokens: int,
        tag: int | None,
        end: Collection[int],
        word_starts: Sequence[bool] | None,
    ) -> None:
        self.decoder, self.new_tokens, self.tag = decoder, new_tokens, tag
        device, rows = model.device, len(prompts)
        self.end = torch.tensor(sorted(end), dtype=torch.long, device=device)
        self.starts = self.boundaries(
            word_starts, model.config.get_text_config().vocab_size, device
        )
        self.noise = self.draw_noise(prompts, device)
        self.places = torch.arange(rows, device=device)  # of each row among the prompts
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.decoded: list[Decoded | None] = [None] * rows
        self.tree = TokenTree(model, prompts, decoder.beams * decoder.width)
        last = torch.tensor([prompt[-1:] for prompt in prompts], device=device)
        self.scores = self.read(last, torch.zeros_like(last))
        self.texts = Texts(
            tokens=torch.zeros(rows, 1, new_tokens, dtype=torch.long, device=device),
            tags=self.scores.new_zeros(rows, 1, new_tokens),
            length=torch.zeros_like(last),
            log_probability=self.scores.new_zeros(rows, 1),
            evidence=self.tag_probability(self.scores),
            finished=torch.zeros_like(last, dtype=torch.bool),
        )
        self.tree.adopt(torch.zeros_like(last), ~self.texts.finished)

    def boundaries(
        self, word_starts: Sequence[bool] | None, vocabulary: int, device: torch.device
    ) -> Tensor | None:
        """For each token, whether before it a word has ended; true of the tag itself, which stands
        only there.
        """
        if not self.decoder.needs_words or word_starts is None:
            return None
        starts = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        starts[: len(word_starts)] = torch.tensor(word_starts[:vocabulary], device=device)
        starts[self.tag] = True
        return starts

    def draw_noise(self, prompts: list[list[int]], device: torch.device) -> Tensor | None:
        """The chance that a decoder needs, (rows, steps, candidates); each prompt's is its own."""
        if not self.decoder.is_random:
            return None
        width = self.decoder.beams * self.decoder.width
        drawn = [
            rules.noise(prompt, self.decoder.seed, self.new_tokens, width) for prompt in prompts
        ]
        return torch.from_numpy(numpy.stack(drawn)).to(device)

    def run(self, watch: Watch | None = None) -> list[Decoded]:
        """Search until every prompt is done or has all its tokens; `watch` is told of each that is
        not, every step.
        """
        for step in range(self.new_tokens):
            self.advance(step)
            if watch:
                self.show(watch)
            self.record(self.settled())
            if self.done.all():
                break
            if int(self.done.sum()) * 8 >= len(
                self.done
            ):  # an eighth: a copy of the cache for less does not pay
                self.select(~self.done)
        self.record(~self.done)
        return [decoded for decoded in self.decoded if decoded is not None]

    def advance(self, step: int) -> None:
        """One round of Algorithm 2: propose, look ahead, drop, keep the likeliest.

        A rule that does not ask for p(tag) chooses first, so that only the chosen are forwarded.
        """
        candidates, parents = self.propose(step)
        if self.decoder.looks_ahead:
            scores = self.look_ahead(candidates, parents, step)
            chosen = self.choose(candidates, candidates.evidence)
            self.texts = candidates.take(chosen)
            self.scores = scores[torch.arange(len(chosen), device=chosen.device)[:, None], chosen]
        else:
            evidence = (
                candidates.evidence
                if self.noise is None
                else self.noise[:, step, : parents.shape[1]]
            )
            chosen = self.choose(candidates, evidence)
            self.texts = candidates.take(chosen)
            self.scores = self.look_ahead(self.texts, parents.gather(1, chosen), step)
            chosen = torch.arange(chosen.shape[1], device=chosen.device).expand_as(chosen)
        self.tree.adopt(chosen, ~self.texts.finished & (self.texts.log_probability > -torch.inf))

    def propose(self, step: int) -> tuple[Texts, Tensor]:
        """C without its p(tag): each beam's likeliest next tokens; an ended beam is its own only
        candidate.
        """
        tokens, gains = self.next_tokens(step)
        rows, beams, width = tokens.shape
        ended = self.texts.finished[..., None]
        first = (
            torch.arange(width, device=tokens.device) == 0
        )  # the likeliest is never too unlikely
        floor = math.log(self.decoder.floor) if self.decoder.floor else -math.inf
        allowed = first | (~ended & (gains >= floor))
        gains = gains.masked_fill(ended, 0).masked_fill(~allowed, -torch.inf)
        parents = (
            torch.arange(beams, device=tokens.device).repeat_interleave(width).expand(rows, -1)
        )
        texts = self.texts.take(parents)
        texts.log_probability += gains.flatten(1)
        texts.tokens[..., step] = tokens.flatten(1)
        texts.finished |= torch.isin(texts.tokens[..., step], self.end)
        texts.length += ~texts.finished
        return texts, parents

    def width(self, step: int) -> int:
        """Candidates of a beam at this step."""
        return self.decoder.width

    def next_tokens(self, step: int) -> tuple[Tensor, Tensor]:
        """The tokens each beam could go on with, and their log-probabilities, likeliest first:
        (rows, beams, width).

        Also stops the prompts where the tag is what comes next, if the decoder short-circuits.
        """
        scores, tag = self.scores, self.tag
        if self.decoder.method == "top_k":
            if tag is not None and not self.decoder.short_circuit:
                scores[..., tag] = -torch.inf
            tokens, gains = self.draw(scores, step)
            self.short_circuit(tokens[:, 0, 0], gains[:, 0, 0])
        else:
            if self.decoder.short_circuit:
                self.short_circuit(scores[:, 0].argmax(dim=-1), scores[:, 0, tag])
            if tag is not None:
                scores[..., tag] = -torch.inf
            gains, tokens = scores.topk(min(self.width(step), scores.shape[-1]), dim=-1)
        return tokens, gains

    def draw(self, scores: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """One of the `top_k` likeliest tokens of at least `floor`, by their probabilities at
        `temperature`.
        """
        assert self.noise is not None  # draw_noise makes it for this method
        gains, tokens = scores.topk(min(self.decoder.top_k, scores.shape[-1]), dim=-1)
        weights = (gains.double() / self.decoder.temperature).softmax(dim=-1)
        weights[..., 1:] *= gains[..., 1:].exp() >= self.decoder.floor
        shares = weights.cumsum(dim=-1)
        mark = self.noise[:, step, None, :] * shares[..., -1:]
        place = (shares <= mark).sum(dim=-1, keepdim=True)
        return tokens.gather(-1, place), gains.gather(-1, place)

    def short_circuit(self, following: Tensor, gain: Tensor) -> None:
        """Stop the prompts whose likeliest text goes on with the tag (paper §5, v2; category 5 of
        §8.1).
        """
        if self.decoder.short_circuit:
            stopped = (following == self.tag) & ~self.texts.finished[:, 0]
            self.record(stopped, self.texts.log_probability[:, 0] + gain)

    def read(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Log-probabilities of what follows each of these tokens, (rows, tokens, vocabulary)."""
        logits = self.tree.forward(tokens, parents)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)

    def look_ahead(self, texts: Texts, parents: Tensor, step: int) -> Tensor:
        """Forward the last tokens of these texts: p(tag) after them, and the scores that the next
        step expands.
        """
        scores = self.read(texts.tokens[..., step], parents)
        tag_probability = self.tag_probability(scores)
        texts.tags[..., step] = tag_probability
        fresh = ~texts.finished
        if self.decoder.rule == "boundary" and self.starts is not None:
            fresh &= self.starts[
                scores.argmax(dim=-1)
            ]  # boundary: inside a word the last word's value holds
        texts.evidence = torch.where(fresh, tag_probability, texts.evidence)
        return scores

    def tag_probability(self, scores: Tensor) -> Tensor:
        """f(TAG | y) of each text; 0 for a model without the tag."""
        return (
            scores.new_zeros(scores.shape[:-1]) if self.tag is None else scores[..., self.tag].exp()
        )

    def choose(self, candidates: Texts, evidence: Tensor) -> Tensor:
        """Drop candidates by the rule; the places of the likeliest that are left, which become the
        beams.
        """
        kept = rules.keep(
            self.decoder.rule, evidence, candidates.log_probability, self.decoder.threshold
        )
        candidates.log_probability.masked_fill_(~kept, -torch.inf)
        return rules.best(candidates.log_probability, self.decoder.beams)

    def settled(self) -> Tensor:
        """The prompts whose answer can change no more.

        All beams have ended; or the likeliest has, and the rule cannot drop it (under `absolute` it
        is below the threshold, or alone): the others only get less likely."""
        settled = (self.texts.finished | (self.texts.log_probability == -torch.inf)).all(dim=1)
        if self.decoder.rule in ("none", "absolute"):
            settled |= self.texts.finished[:, 0]
        return settled

    def leading(self) -> Tensor:
        """The place of each prompt's likeliest text."""
        return torch.zeros_like(self.places)

    def show(self, watch: Watch) -> None:
        """Tell of the leading text of each prompt that goes on."""
        rows = (~self.done).nonzero()[:, 0]
        leading = self.leading()[rows]
        columns = (self.texts.tokens, self.texts.tags, self.texts.length)
        tokens, tags, length = (column[rows, leading].tolist() for column in columns)
        for row, place in enumerate(self.places[rows].tolist()):
            watch(
                place,
                tokens[row][: length[row]],
                [] if self.tag is None else tags[row][: length[row]],
            )

    def record(self, rows: Tensor, short_circuited: Tensor | None = None) -> None:
        """Write down the likeliest text of these prompts, once; a short-circuited one with its
        log-probability.
        """
        new = (rows & ~self.done).nonzero()[:, 0]
        self.done = self.done | rows
        likelihood = (
            self.texts.log_probability[:, 0] if short_circuited is None else short_circuited
        )
        columns = [
            self.texts.tokens[:, 0],
            self.texts.tags[:, 0],
            self.texts.length[:, 0],
            self.texts.finished[:, 0],
        ]
        tokens, tags, length, finished, likelihoods, places = (
            column[new].tolist() for column in (*columns, likelihood, self.places)
        )
        for row, place in enumerate(places):
            if not math.isfinite(likelihoods[row]):
                raise ValueError(
                    "the model's logits are not finite: it is broken, or its precision is too low"
                )
            self.decoded[place] = Decoded(
                tokens=tokens[row][: length[row]],
                finished=finished[row],
                short_circuited=short_circuited is not None,
                log_probability=likelihoods[row],
                tag_probabilities=[] if self.tag is None else tags[row][: length[row]],
            )

    def select(self, rows: Tensor) -> None:
        """Go on with these prompts only."""
        self.tree.select(rows)
        self.texts, self.scores = self.texts.select(rows), self.scores[rows]
        self.places, self.done = self.places[rows], self.done[rows]
        if self.noise is not None:
            self.noise = self.noise[rows]
