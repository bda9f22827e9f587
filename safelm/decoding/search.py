"""Batched search over a tree of tokens: Algorithm 2 of the paper (§5), which every decoder runs.

The paper leaves open what follows; here it is decided so.

- The tag is never written. It is banned, or with `short_circuit` a prompt stops where the tag is
  what its likeliest text (or the draw) says next.
- A candidate that ends the text is not looked ahead at, because after the end the model reads of
  something else. It keeps the p(tag) of its parent, so ending early is neither safer nor less safe.
- Ended texts stay in the beam, unchanged, and are candidates like others. A prompt is done when all
  its beams have ended.
- Log-probabilities are summed without a length penalty.
"""

import math
from collections.abc import Callable, Collection, Sequence

import numpy
import torch
from torch import Tensor
from transformers import PreTrainedModel

from safelm.decoding import rules
from safelm.decoding.beams import Beams, Decoded
from safelm.decoding.tree import TokenTree
from specs.decoder import Decoder, Drop, SafeBeam, TokenDecoder, TopK

# Called with the index of a prompt, the tokens of its leading text and p(tag) after each of them.
Watch = Callable[[int, list[int], list[float]], None]


class Search:
    """A batch of prompts being continued, one token a step, each by at most its `new_tokens`.

    `decoded` has a text for each prompt that is done.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: list[list[int]],
        decoder: Decoder,
        *,
        new_tokens: Sequence[int],
        tag: int | None,
        end: Collection[int],
        word_starts: Sequence[bool] | None,
        seed: int,
    ) -> None:
        self.decoder, self.tag = decoder, tag
        self.steps, longest = 0, max(new_tokens)
        self.drop: Drop | None = decoder.drop if isinstance(decoder, SafeBeam) else None
        self.looks_ahead = isinstance(decoder, SafeBeam) and decoder.looks_ahead
        self.stops_at_tag = isinstance(decoder, TokenDecoder) and decoder.short_circuit
        least = decoder.min_probability
        self.log_floor = math.log(least) if least else -math.inf
        device, rows = model.device, len(prompts)
        self.end = torch.tensor(sorted(end), dtype=torch.long, device=device)
        vocabulary = model.config.get_text_config().vocab_size
        self.starts = self.word_boundaries(word_starts, vocabulary, device)
        self.noise = self.draw_noise(prompts, longest, seed, device)
        # The index of each row's prompt: rows of prompts that are done are removed.
        self.prompts = torch.arange(rows, device=device)
        self.new_tokens = torch.tensor(new_tokens, device=device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.decoded: list[Decoded | None] = [None] * rows
        self.tree = TokenTree(model, prompts, decoder.texts * decoder.width)
        last = torch.tensor([prompt[-1:] for prompt in prompts], device=device)
        self.scores = self.read(last, torch.zeros_like(last))
        self.beams = Beams(
            tokens=torch.zeros(rows, 1, longest, dtype=torch.long, device=device),
            tags=self.scores.new_zeros(rows, 1, longest),
            length=torch.zeros_like(last),
            log_probability=self.scores.new_zeros(rows, 1),
            evidence=self.tag_probability(self.scores),
            finished=torch.zeros_like(last, dtype=torch.bool),
        )
        self.tree.adopt(torch.zeros_like(last), self.beams.is_alive)

    def word_boundaries(
        self, word_starts: Sequence[bool] | None, vocabulary: int, device: torch.device
    ) -> Tensor | None:
        """Mark the tokens before which a word has ended, the tag included: it stands only there."""
        if not self.decoder.needs_words or word_starts is None:
            return None
        starts = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        starts[: len(word_starts)] = torch.tensor(word_starts[:vocabulary], device=device)
        starts[self.tag] = True
        return starts

    def draw_noise(
        self, prompts: list[list[int]], steps: int, seed: int, device: torch.device
    ) -> Tensor | None:
        """Draw the random numbers of each prompt, (rows, steps, candidates), if any are used."""
        if not self.decoder.is_random:
            return None
        width = self.decoder.texts * self.decoder.width
        drawn = [rules.noise(prompt, seed, steps, width) for prompt in prompts]
        return torch.from_numpy(numpy.stack(drawn)).to(device)

    def run(self, watch: Watch | None = None) -> list[Decoded]:
        """Search until every prompt is done or has all its tokens.

        `watch` is called after every step with each prompt that is not done.
        """
        while not self.done.all():
            self.step(watch)
        return [decoded for decoded in self.decoded if decoded is not None]

    def step(self, watch: Watch | None = None) -> None:
        """Write one token more of every prompt, and write down the texts that are done by it."""
        self.advance(self.steps)
        self.steps += 1
        if watch:
            self.show(watch)
        at_bound = self.new_tokens <= self.steps
        self.record(self.settled() | at_bound)
        # Copying the cache pays once an eighth of its rows is no longer needed. A text at its bound
        # must not grow past the model's positions.
        if at_bound.any() or int(self.done.sum()) * 8 >= len(self.done):
            self.select(~self.done)

    def cancel(self, prompt: int) -> None:
        """Stop a prompt, of which no text is wanted any more."""
        self.done |= self.prompts == prompt

    def advance(self, step: int) -> None:
        """Run one round of Algorithm 2: propose, look ahead, drop, keep the likeliest.

        A decoder that does not compare p(tag) chooses first, so only the chosen are forwarded.
        """
        candidates, parents = self.propose(step)
        if self.looks_ahead:
            scores = self.look_ahead(candidates, parents, step)
            chosen = self.choose(candidates, candidates.evidence)
            self.beams = candidates.take(chosen)
            rows = torch.arange(len(chosen), device=chosen.device)[:, None]
            self.scores = scores[rows, chosen]
        else:
            evidence = candidates.evidence
            if self.noise is not None:
                evidence = self.noise[:, step, : parents.shape[1]]
            chosen = self.choose(candidates, evidence)
            self.beams = candidates.take(chosen)
            self.scores = self.look_ahead(self.beams, parents.gather(1, chosen), step)
            chosen = torch.arange(chosen.shape[1], device=chosen.device).expand_as(chosen)
        self.tree.adopt(chosen, self.beams.is_alive)

    def propose(self, step: int) -> tuple[Beams, Tensor]:
        """Make C without its p(tag): each beam's likeliest next tokens, and each one's parent.

        An ended beam is its own only candidate.
        """
        tokens, gains = self.next_tokens(step)
        rows, beams, width = tokens.shape
        ended = self.beams.finished[..., None]
        is_likeliest = torch.arange(width, device=tokens.device) == 0
        is_tried = is_likeliest | (~ended & (gains >= self.log_floor))
        gains = gains.masked_fill(ended, 0).masked_fill(~is_tried, -torch.inf)
        parents = torch.arange(beams, device=tokens.device).repeat_interleave(width)
        parents = parents.expand(rows, -1)
        candidates = self.beams.take(parents)
        candidates.log_probability += gains.flatten(1)
        candidates.tokens[..., step] = tokens.flatten(1)
        candidates.finished |= torch.isin(candidates.tokens[..., step], self.end)
        candidates.length += ~candidates.finished
        return candidates, parents

    def width(self, step: int) -> int:
        """Say how many candidates a beam has at this step."""
        return self.decoder.width

    def next_tokens(self, step: int) -> tuple[Tensor, Tensor]:
        """Find the tokens each beam may go on with, and their log-probabilities, likeliest first.

        Both are (rows, beams, width). With `short_circuit`, also stop the prompts where the tag is
        what comes next.
        """
        scores, tag = self.scores, self.tag
        if isinstance(self.decoder, TopK):
            if tag is not None and not self.stops_at_tag:
                scores[..., tag] = -torch.inf
            tokens, gains = self.draw(self.decoder, scores, step)
            self.stop_at_tag(tokens[:, 0, 0], gains[:, 0, 0])
            return tokens, gains
        if self.stops_at_tag:
            self.stop_at_tag(scores[:, 0].argmax(dim=-1), scores[:, 0, tag])
        if tag is not None:
            scores[..., tag] = -torch.inf
        gains, tokens = scores.topk(min(self.width(step), scores.shape[-1]), dim=-1)
        return tokens, gains

    def draw(self, decoder: TopK, scores: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Draw one of the `top_k` likeliest tokens by their probabilities at `temperature`."""
        assert self.noise is not None  # draw_noise makes it for this method
        gains, tokens = scores.topk(min(decoder.top_k, scores.shape[-1]), dim=-1)
        weights = (gains.double() / decoder.temperature).softmax(dim=-1)
        weights[..., 1:] *= gains[..., 1:].exp() >= decoder.min_probability
        shares = weights.cumsum(dim=-1)
        mark = self.noise[:, step, None, :] * shares[..., -1:]
        place = (shares <= mark).sum(dim=-1, keepdim=True)
        return tokens.gather(-1, place), gains.gather(-1, place)

    def stop_at_tag(self, following: Tensor, gain: Tensor) -> None:
        """Stop the prompts whose likeliest text goes on with the tag (paper §5, v2).

        Such a prompt is category 5 of §8.1.
        """
        if self.stops_at_tag:
            stopped = (following == self.tag) & ~self.beams.finished[:, 0]
            self.record(stopped, self.beams.log_probability[:, 0] + gain)

    def read(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Read tokens; the log-probabilities of what follows each, (rows, tokens, vocabulary)."""
        logits = self.tree.forward(tokens, parents)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)

    def look_ahead(self, texts: Beams, parents: Tensor, step: int) -> Tensor:
        """Forward the last tokens of texts: note p(tag) after them, and return the next scores."""
        scores = self.read(texts.tokens[..., step], parents)
        tag_probability = self.tag_probability(scores)
        texts.tags[..., step] = tag_probability
        is_new = ~texts.finished
        if self.drop == "boundary" and self.starts is not None:
            # Inside a word the value at the end of the last word stays.
            is_new &= self.starts[scores.argmax(dim=-1)]
        texts.evidence = torch.where(is_new, tag_probability, texts.evidence)
        return scores

    def tag_probability(self, scores: Tensor) -> Tensor:
        """Take f(TAG | y) of each text; 0 for a model without the tag."""
        if self.tag is None:
            return scores.new_zeros(scores.shape[:-1])
        return scores[..., self.tag].exp()

    def choose(self, candidates: Beams, evidence: Tensor) -> Tensor:
        """Drop candidates by the rule; return the likeliest that are left, which become beams."""
        likelihood, decoder = candidates.log_probability, self.decoder
        if isinstance(decoder, SafeBeam):
            kept = rules.keep(decoder.drop, evidence, likelihood, decoder.max_tag_probability)
            likelihood.masked_fill_(~kept, -torch.inf)
        return rules.likeliest(likelihood, decoder.texts)

    def settled(self) -> Tensor:
        """Mark the prompts whose text can change no more.

        All beams have ended; or the likeliest has, and no rule can drop it (under `absolute` it is
        below the bound, or alone): the others only get less likely.
        """
        settled = ~self.beams.is_alive.any(dim=1)
        if self.drop in (None, "absolute"):
            settled |= self.beams.finished[:, 0]
        return settled

    def leading(self) -> Tensor:
        """Point at each prompt's likeliest beam."""
        return torch.zeros_like(self.prompts)

    def show(self, watch: Watch) -> None:
        """Call `watch` with the leading text of each prompt that goes on."""
        rows = (~self.done).nonzero()[:, 0]
        leading = self.leading()[rows]
        tokens = self.beams.tokens[rows, leading].tolist()
        tags = self.beams.tags[rows, leading].tolist()
        length = self.beams.length[rows, leading].tolist()
        for row, prompt in enumerate(self.prompts[rows].tolist()):
            seen = [] if self.tag is None else tags[row][: length[row]]
            watch(prompt, tokens[row][: length[row]], seen)

    def record(self, rows: Tensor, stopped_at: Tensor | None = None) -> None:
        """Write down the likeliest text of these prompts, once.

        `stopped_at` is given for short-circuited prompts: the log-probability with the tag.
        """
        new = (rows & ~self.done).nonzero()[:, 0]
        self.done = self.done | rows
        beams = self.beams.select(new)
        likelihood = beams.log_probability[:, 0] if stopped_at is None else stopped_at[new]
        tokens, tags = beams.tokens[:, 0].tolist(), beams.tags[:, 0].tolist()
        length, finished = beams.length[:, 0].tolist(), beams.finished[:, 0].tolist()
        for row, prompt in enumerate(self.prompts[new].tolist()):
            if not math.isfinite(log_probability := float(likelihood[row])):
                raise ValueError(
                    "the model's logits are not finite: it is broken, or its precision is too low"
                )
            self.decoded[prompt] = Decoded(
                tokens=tokens[row][: length[row]],
                finished=finished[row],
                short_circuited=stopped_at is not None,
                log_probability=log_probability,
                tag_probabilities=[] if self.tag is None else tags[row][: length[row]],
            )

    def select(self, rows: Tensor) -> None:
        """Go on with these prompts only."""
        self.tree.select(rows)
        self.beams, self.scores = self.beams.select(rows), self.scores[rows]
        self.prompts, self.done = self.prompts[rows], self.done[rows]
        self.new_tokens = self.new_tokens[rows]
        if self.noise is not None:
            self.noise = self.noise[rows]
