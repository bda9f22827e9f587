"""Batched search over a tree of tokens: Algorithm 2 of the paper (§5), run by every decoder.

The paper leaves these points open:

- The tag is never written. It is banned; or, with `short_circuit`, a prompt stops when the tag is
  the next token of its likeliest text, or the token drawn.
- A candidate that ends the text gets no look-ahead, because after the end the model expects another
  document. It keeps the p(tag) of its parent, so ending early is neither safer nor less safe.
- Ended texts stay in the beam, unchanged, and compete with the others. A prompt is done when all
  its beams have ended.
- Log-probabilities are summed without a length penalty.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy
import torch
from torch import Tensor
from transformers import PreTrainedModel

from safelm.decoding import rules
from safelm.decoding.beams import Beams, Decoded, column_index, row_index
from safelm.decoding.tree import TokenTree
from safelm.models.chat import TokenLists
from specs.decoder import Decoder, Drop, SafeBeam, TokenDecoder, TopK

# What is left of the weight of a token that should not be drawn.
LAST_RESORT = 1e-30
# Called with the index of a prompt, the tokens of its leading text and p(tag) after each of them.
Watch = Callable[[int, list[int], list[float]], None]


class Search:
    """A batch of prompts, each continued by at most its `new_tokens`, one token a step.

    `decoded` has the text of each prompt that is done.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: TokenLists,
        decoder: Decoder,
        *,
        new_tokens: Sequence[int],
        tag: int | None,
        end: Collection[int],
        word_starts: Sequence[bool] | None,
        seed: int,
    ) -> None:
        self.decoder = decoder
        self.tag = tag
        self.drop: Drop | None = decoder.drop if isinstance(decoder, SafeBeam) else None
        self.looks_ahead = isinstance(decoder, SafeBeam) and decoder.looks_ahead
        self.stops_at_tag = isinstance(decoder, TokenDecoder) and decoder.short_circuit
        floor = decoder.min_probability
        self.log_floor = math.log(floor) if floor else -math.inf
        self.candidates = decoder.texts * decoder.width
        device = model.device
        longest = max(new_tokens)
        self.end = torch.tensor(sorted(end), dtype=torch.long, device=device)
        vocabulary = model.config.get_text_config().vocab_size
        self.starts = self.word_boundaries(word_starts, vocabulary, device)
        self.noise = self.draw_noise(prompts, longest, seed, device)
        # The prompt of each row; the rows of prompts that are done are removed.
        self.prompts = torch.arange(len(prompts), device=device)
        self.new_tokens = torch.tensor(new_tokens, device=device)
        self.steps = torch.zeros_like(self.prompts)
        self.done = torch.zeros_like(self.prompts, dtype=torch.bool)
        self.decoded: list[Decoded | None] = [None] * len(prompts)
        self.tree = TokenTree(model, prompts, self.candidates)
        # The tree has read each prompt but for its last token, whose scores begin the search.
        last = torch.tensor([prompt[-1:] for prompt in prompts], device=device)
        only_beam = torch.zeros_like(last)
        self.scores = self.read(last, only_beam)
        self.beams = self.empty_texts(longest)
        self.tree.adopt(only_beam, self.beams.is_alive)

    def empty_texts(self, steps: int) -> Beams:
        """Return the beams before the first step: for each prompt one, without a token."""
        rows = len(self.prompts)
        length = self.prompts.new_zeros(rows, 1)
        return Beams(
            tokens=self.prompts.new_zeros(rows, 1, steps),
            tags=self.scores.new_zeros(rows, 1, steps),
            length=length,
            log_probability=self.scores.new_zeros(rows, 1),
            evidence=self.tag_probability(self.scores),
            finished=torch.zeros_like(length, dtype=torch.bool),
        )

    def word_boundaries(
        self,
        word_starts: Sequence[bool] | None,
        vocabulary: int,
        device: torch.device,
    ) -> Tensor | None:
        """Mark the tokens of the vocabulary that open a word, if the decoder needs to know them."""
        if not self.decoder.needs_words or word_starts is None:
            return None
        # A model may have more tokens than its tokenizer, or fewer.
        starts = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        starts[: len(word_starts)] = torch.tensor(word_starts[:vocabulary], device=device)
        # Training inserts the tag between words only, so a word has ended before it.
        starts[self.tag] = True
        return starts

    def draw_noise(
        self,
        prompts: TokenLists,
        steps: int,
        seed: int,
        device: torch.device,
    ) -> Tensor | None:
        """Draw the random numbers of each prompt, (rows, steps, candidates), if it needs some."""
        if not self.decoder.is_random:
            return None
        drawn = [rules.noise(prompt, seed, steps, self.candidates) for prompt in prompts]
        return torch.from_numpy(numpy.stack(drawn)).to(device)

    def run(self, watch: Watch | None = None) -> list[Decoded]:
        """Search until every prompt is done or has all its tokens.

        `watch` is called after every step with each prompt that is not done.
        """
        while not self.done.all():
            self.step(watch)
        return [decoded for decoded in self.decoded if decoded is not None]

    def step(self, watch: Watch | None = None) -> None:
        """Write one more token of every prompt, and record the texts that are done with it."""
        self.advance()
        self.steps += 1
        if watch:
            self.show(watch)
        at_bound = self.new_tokens <= self.steps
        self.record(self.settled() | at_bound)
        # Removing rows copies the cache. That pays once an eighth of them is no longer needed, and
        # a text at its bound has to go, or it could grow past the model's positions.
        done = int(self.done.sum())
        is_worth_a_copy = done * 8 >= len(self.done)
        if is_worth_a_copy or at_bound.any():
            self.select(~self.done)

    def cancel(self, prompt: int) -> None:
        """Stop a prompt whose text nobody waits for any more."""
        self.done |= self.prompts == prompt

    @property
    def rows(self) -> Tensor:
        """The index of every row, to index a tensor by rows and steps."""
        return torch.arange(len(self.steps), device=self.steps.device)

    def advance(self) -> None:
        """Run one round of Algorithm 2: propose, look ahead, drop, keep the likeliest.

        A decoder that does not compare p(tag) chooses first and forwards only what it has chosen.
        """
        candidates, parents = self.propose()
        if self.looks_ahead:
            scores = self.look_ahead(candidates, parents)
            chosen = self.choose(candidates, candidates.evidence)
            self.beams = candidates.take(chosen)
            self.scores = scores[row_index(chosen), chosen]
        else:
            evidence = candidates.evidence
            if self.noise is not None:
                evidence = self.numbers(parents.shape[1])
                if self.decoder.draws:
                    # The first digits have drawn the candidates; the next ones do not depend on it.
                    evidence = evidence * 2**26 % 1
            chosen = self.choose(candidates, evidence)
            self.beams = candidates.take(chosen)
            chosen_parents = parents.gather(1, chosen)
            self.scores = self.look_ahead(self.beams, chosen_parents)
            # The tree has seen only the chosen ones, so it adopts all, in their order.
            chosen = column_index(chosen)
        self.tree.adopt(chosen, self.beams.is_alive)

    def propose(self) -> tuple[Beams, Tensor]:
        """Make the candidates C, still without p(tag), and the index of each one's parent beam.

        An ended beam has one candidate, itself.
        """
        tokens, gains = self.next_tokens()
        rows, beams, width = tokens.shape
        is_ended = self.beams.finished[..., None]
        is_likeliest = torch.arange(width, device=tokens.device) == 0
        is_likely_enough = ~is_ended & (gains >= self.log_floor)
        is_tried = is_likeliest | is_likely_enough
        gains = gains.masked_fill(is_ended, 0)
        gains = gains.masked_fill(~is_tried, -torch.inf)
        parents = torch.arange(beams, device=tokens.device).repeat_interleave(width)
        parents = parents.expand(rows, -1)
        candidates = self.beams.take(parents)
        candidates.log_probability += gains.flatten(1)
        next_tokens = tokens.flatten(1)
        candidates.tokens[self.rows, :, self.steps] = next_tokens
        candidates.finished |= torch.isin(next_tokens, self.end)
        candidates.length += ~candidates.finished
        return candidates, parents

    def next_tokens(self) -> tuple[Tensor, Tensor]:
        """Find the next tokens to try after each beam, likeliest first, and their log-probability.

        Both are (rows, beams, width). With `short_circuit`, prompts that go on with the tag stop.
        """
        scores = self.scores
        if isinstance(self.decoder, TopK):
            # A decoder that stops at the tag must be able to draw it.
            if not self.stops_at_tag:
                self.ban_tag()
            tokens, gains = self.draw(1, self.decoder.top_k)
            self.stop_at_tag(tokens[:, 0, 0], gains[:, 0, 0])
            return tokens, gains
        likeliest_beam = scores[:, 0]
        if self.stops_at_tag:
            # Before the ban, which takes the tag out of the scores.
            likeliest_tokens = likeliest_beam.argmax(dim=-1)
            self.stop_at_tag(likeliest_tokens, likeliest_beam[:, self.tag])
        self.ban_tag()
        width = min(self.decoder.width, scores.shape[-1])
        if self.decoder.draws:
            return self.draw(width, scores.shape[-1])
        gains, tokens = scores.topk(width, dim=-1)
        return tokens, gains

    def ban_tag(self) -> None:
        """Make the tag impossible as the next token."""
        if self.tag is not None:
            self.scores[..., self.tag] = -torch.inf

    def draw(self, width: int, top_k: int) -> tuple[Tensor, Tensor]:
        """Draw `width` different tokens of the `top_k` likeliest after each beam.

        Of these, the ones beyond `top_p` are drawn only after all others.
        """
        gains, tokens = self.scores.topk(min(top_k, self.scores.shape[-1]), dim=-1)
        # In double precision, because the sum of many small weights decides between tokens.
        weights = (gains.double() / (self.decoder.temperature or 1.0)).softmax(dim=-1)
        # `min_probability` counts before the temperature. The likeliest token always takes part.
        before = weights.cumsum(dim=-1) - weights
        is_beyond = (gains.exp() < self.decoder.min_probability) | (before >= self.decoder.top_p)
        is_beyond[..., 0] = False
        weights[is_beyond] *= LAST_RESORT
        beams = gains.shape[1]
        numbers = self.numbers(beams * width).unflatten(1, (beams, width))
        drawn = []
        for number in numbers.split(1, dim=2):
            # The number is a point on the line of all weights; count the tokens that end before.
            ends = weights.cumsum(dim=-1)
            index = (ends <= number * ends[..., -1:]).sum(dim=-1, keepdim=True)
            drawn.append(index)
            weights = weights.scatter(-1, index, 0)
        indices = torch.cat(drawn, dim=-1)
        return tokens.gather(-1, indices), gains.gather(-1, indices)

    def numbers(self, count: int) -> Tensor:
        """Return the random numbers of this step, (rows, count)."""
        assert self.noise is not None  # draw_noise makes it for decoders that draw
        return self.noise[self.rows, self.steps, :count]

    def stop_at_tag(self, following: Tensor, gain: Tensor) -> None:
        """Stop the prompts whose likeliest text goes on with the tag (paper §5, v2).

        The paper's judge counts such an answer as category 5, "short-circuit" (§8.1).
        """
        if self.stops_at_tag:
            is_stopped = (following == self.tag) & ~self.beams.finished[:, 0]
            self.record(is_stopped, self.beams.log_probability[:, 0] + gain)

    def read(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Forward tokens; return log-probabilities after each, (rows, tokens, vocabulary)."""
        logits = self.tree.forward(tokens, parents)
        # At least in single precision: in half precision, different tokens become equal.
        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return precise.log_softmax(dim=-1)

    def look_ahead(self, texts: Beams, parents: Tensor) -> Tensor:
        """Forward the last token of each text, set its p(tag), and return the scores after it."""
        scores = self.read(texts.tokens[self.rows, :, self.steps], parents)
        tag_probability = self.tag_probability(scores)
        texts.tags[self.rows, :, self.steps] = tag_probability
        is_new = ~texts.finished
        if self.drop == "boundary" and self.starts is not None:
            # p(tag) is next to 0 inside a word, so there the value of the last word's end stays.
            is_new &= self.starts[scores.argmax(dim=-1)]
        texts.evidence = torch.where(is_new, tag_probability, texts.evidence)
        return scores

    def tag_probability(self, scores: Tensor) -> Tensor:
        """Return f(TAG | y) of each text; 0 for a model without the tag."""
        if self.tag is None:
            return scores.new_zeros(scores.shape[:-1])
        return scores[..., self.tag].exp()

    def choose(self, candidates: Beams, evidence: Tensor) -> Tensor:
        """Drop candidates by the rule; return the indices of the likeliest that are left."""
        likelihood = candidates.log_probability
        decoder = self.decoder
        if isinstance(decoder, SafeBeam):
            kept = rules.keep(decoder.drop, evidence, likelihood, decoder.max_tag_probability)
            likelihood.masked_fill_(~kept, -torch.inf)
        return rules.likeliest(likelihood, decoder.texts)

    def settled(self) -> Tensor:
        """Mark the prompts whose text cannot change any more.

        Either all beams have ended; or the likeliest has, the others only get less likely, and no
        rule can drop it. (Under `absolute` it is below the bound, or the only beam.)
        """
        settled = ~self.beams.is_alive.any(dim=1)
        if self.drop in (None, "absolute"):
            settled |= self.beams.finished[:, 0]
        return settled

    def show(self, watch: Watch) -> None:
        """Call `watch` with the leading text of each prompt that goes on."""
        rows = (~self.done).nonzero()[:, 0]
        for text in self.texts(rows):
            watch(*text)

    def texts(self, rows: Tensor) -> Iterator[tuple[int, list[int], list[float]]]:
        """Yield the prompt, tokens and p(tag) of the likeliest beam, the first, of these rows."""
        # One transfer from the device for all rows: each waits for what it computes.
        lengths = self.beams.length[rows, 0].tolist()
        tokens = self.beams.tokens[rows, 0].tolist()
        tags = self.beams.tags[rows, 0].tolist()
        for row, prompt in enumerate(self.prompts[rows].tolist()):
            length = lengths[row]
            tag_probabilities = [] if self.tag is None else tags[row][:length]
            yield prompt, tokens[row][:length], tag_probabilities

    def record(self, rows: Tensor, stopped_at: Tensor | None = None) -> None:
        """Record the likeliest text of these prompts as `decoded`, unless they are done.

        `stopped_at` is the log-probability with the tag, for prompts that are short-circuited.
        """
        new = (rows & ~self.done).nonzero()[:, 0]
        self.done = self.done | rows
        likelihood = self.beams.log_probability[:, 0] if stopped_at is None else stopped_at
        log_probabilities = likelihood[new].tolist()
        finished = self.beams.finished[new, 0].tolist()
        for row, (prompt, tokens, tags) in enumerate(self.texts(new)):
            if not math.isfinite(log_probabilities[row]):
                raise ValueError(
                    "the model's logits are not finite: it is broken, or its precision is too low"
                )
            self.decoded[prompt] = Decoded(
                tokens,
                finished=finished[row],
                short_circuited=stopped_at is not None,
                log_probability=log_probabilities[row],
                tag_probabilities=tags,
            )

    def select(self, rows: Tensor) -> None:
        """Continue these prompts only."""
        self.tree.select(rows)
        self.beams = self.beams.select(rows)
        self.scores = self.scores[rows]
        self.prompts = self.prompts[rows]
        self.steps = self.steps[rows]
        self.done = self.done[rows]
        self.new_tokens = self.new_tokens[rows]
        if self.noise is not None:
            self.noise = self.noise[rows]
