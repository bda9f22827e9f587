"""SafeBeam against a slow, literal transcription of Algorithm 2, and properties of decoders."""

import math
import random
from dataclasses import dataclass

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.generation import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList

from safelm.decoding import (
    BeamSearch,
    Branch,
    CustomGenerate,
    Decoded,
    Decoder,
    Greedy,
    SafeBeam,
    TopK,
    generate,
    word_starts,
)
from safelm.decoding import rules as rules_of
from safelm.decoding.generate import search_class
from safelm.decoding.search import Search

VOCABULARY, TAG, END, OTHER_END = 40, 3, 0, 7
STARTS = [
    token % 3 == 1 for token in range(VOCABULARY)
]  # a vocabulary in which every third token opens a word
INFINITY = math.inf


def llama(seed: int, **changes: object) -> LlamaForCausalLM:
    """A tiny model with random weights, large and exact enough that no two candidates are as good
    as equal.
    """
    torch.manual_seed(seed)
    shape: dict = dict(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2
    )
    heads = dict(
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.6,
    )
    config = LlamaConfig(**{**shape, **heads, "tie_word_embeddings": bool(seed % 2), **changes})
    model = LlamaForCausalLM(config).double().eval()
    model.lm_head.weight.data[TAG] *= 2  # p(tag) from next to nothing to nearly sure
    return model


torch.set_num_threads(1)  # models this small are slower on several


def prompts_of(seed: int, count: int = 4) -> list[list[int]]:
    draw = random.Random(seed)
    return [
        [draw.randrange(8, VOCABULARY) for _ in range(draw.randint(1, 9))] for _ in range(count)
    ]


def run(
    model,
    prompts,
    decoder: Decoder,
    *,
    batch: int = 8,
    new_tokens: int = 7,
    tag=TAG,
    end=(END,),
    seed: int = 0,
) -> list[Decoded]:
    return generate(
        model,
        prompts,
        decoder,
        new_tokens=new_tokens,
        tag=tag,
        end=end,
        batch=batch,
        word_starts=STARTS,
        seed=seed,
    )


def changed(decoder: Decoder, **values: object) -> Decoder:
    """The decoder with other values, checked as a new one is."""
    return type(decoder)(**{**decoder.model_dump(), **values})


# The literal transcription: whole texts, no cache, plain Python.


def following(model, texts: list[list[int]]) -> list[list[float]]:
    """f(. | y) of texts of one length: the log-probabilities of the next token."""
    with torch.inference_mode():
        return model(torch.tensor(texts)).logits[:, -1].log_softmax(-1).tolist() if texts else []


def p_tag(scores: list[float]) -> float:
    return math.exp(scores[TAG])


def top(scores: list[float], count: int, floor: float) -> list[int]:
    tokens = sorted(
        (token for token in range(VOCABULARY) if token != TAG), key=lambda token: -scores[token]
    )[:count]
    return [token for place, token in enumerate(tokens) if place == 0 or scores[token] >= floor]


def tokens_after(scores: list[float], decoder: Decoder, marks) -> list[int]:
    """The tokens that are tried: the likeliest, or one drawn for each mark, never one twice."""
    floor = log_floor(decoder)
    if not decoder.draws:
        return top(scores, len(marks), floor)
    tokens = top(scores, VOCABULARY, -INFINITY)
    weights = {token: math.exp(scores[token] / (decoder.temperature or 1)) for token in tokens}
    pool, reached = [], 0.0
    for token in tokens:
        if not pool or (reached < decoder.top_p and scores[token] >= floor):
            pool.append(token)
        reached += weights[token] / sum(weights.values())
    found: list[int] = []
    for mark in marks:
        left = [token for token in pool if token not in found]
        left = left or [token for token in tokens if token not in found]
        mark *= sum(weights[token] for token in left)
        for token in left:
            if mark < weights[token]:
                break
            mark -= weights[token]
        found.append(token)
    return [token for place, token in enumerate(found) if place == 0 or scores[token] >= floor]


def drop_of(decoder: Decoder) -> str | None:
    return decoder.drop if isinstance(decoder, SafeBeam) else None


def drop(candidates: list[dict], decoder: Decoder, noise) -> list[dict]:
    """Drop candidates of C. sorted() is stable: equal ones go by likelihood, then by place."""
    rule = drop_of(decoder)
    value = (lambda c: noise[c["place"]]) if rule == "random" else (lambda c: c["evidence"])
    safest = sorted(sorted(candidates, key=lambda c: -c["logp"]), key=value)
    if rule is None:
        kept = safest
    elif rule == "absolute":
        kept = [c for c in safest if c["evidence"] <= decoder.max_tag_probability] or safest[:1]
    else:
        kept = safest[: len(safest) - len(safest) // 2]
    return sorted(kept, key=lambda c: c["place"])


def log_floor(decoder: Decoder) -> float:
    return math.log(decoder.min_probability) if decoder.min_probability else -INFINITY


def literal(
    model, prompt: list[int], decoder: Decoder, *, new_tokens: int = 7, end=(END,), seed: int = 0
) -> Decoded:
    """Run Algorithm 2 line by line; safelm.decoding.search says how its gaps are filled."""
    if isinstance(decoder, Branch):
        return literal_branch(model, prompt, decoder, new_tokens=new_tokens, end=end, seed=seed)
    noise = rules_of.noise(prompt, seed, new_tokens, decoder.texts * decoder.width)
    scores = following(model, [prompt])[0]
    beams = [
        {
            "text": [],
            "logp": 0.0,
            "evidence": p_tag(scores),
            "tags": [],
            "finished": False,
            "scores": scores,
        }
    ]
    for step in range(new_tokens):
        if all(beam["finished"] for beam in beams):
            break
        leader = beams[0]
        scores = leader["scores"]
        if decoder.short_circuit and not leader["finished"] and max(scores) == scores[TAG]:
            return Decoded(
                leader["text"], False, True, leader["logp"] + scores[TAG], leader["tags"]
            )
        candidates = []
        for number, beam in enumerate(beams):
            place = number * decoder.width
            if beam["finished"]:
                candidates.append({**beam, "place": place})
                continue
            tried = tokens_after(beam["scores"], decoder, noise[step][place:][: decoder.width])
            for rank, token in enumerate(tried):
                new = {**beam, "place": place + rank, "logp": beam["logp"] + beam["scores"][token]}
                if token in end:
                    new["finished"] = True
                else:
                    new["text"] = beam["text"] + [token]
                candidates.append(new)
        longer = [candidate for candidate in candidates if not candidate["finished"]]
        after_each = following(model, [prompt + new["text"] for new in longer])
        for new, after in zip(longer, after_each, strict=True):
            new["scores"], new["tags"] = after, new["tags"] + [p_tag(after)]
            likeliest = max(range(VOCABULARY), key=lambda token: after[token])
            if drop_of(decoder) != "boundary" or likeliest == TAG or STARTS[likeliest]:
                new["evidence"] = p_tag(after)
        evidence = noise[step] * 2**26 % 1 if decoder.draws else noise[step]
        kept = drop(candidates, decoder, evidence)
        beams = sorted(kept, key=lambda c: -c["logp"])[: decoder.texts]
    best = max(beams, key=lambda beam: beam["logp"])
    return Decoded(best["text"], best["finished"], False, best["logp"], best["tags"])


def literal_branch(
    model, prompt: list[int], decoder: Branch, *, new_tokens: int, end, seed: int
) -> Decoded:
    """Write one branch after another, greedily after its first token; give the most valuable."""
    noise = rules_of.noise(prompt, seed, new_tokens, decoder.branches)
    begin = following(model, [prompt])[0]
    best: tuple[float, Decoded] | None = None
    worst = 0.0
    left = [*begin]
    left[TAG] = -INFINITY
    for number in range(decoder.branches):
        if number and max(left) < log_floor(decoder):
            break
        (first,) = tokens_after(left, decoder, noise[0][number:][:1])
        left[first] = -INFINITY
        text, tags, logp, finished, scores, token = [], [], begin[first], False, begin, first
        while not (finished := token in end):
            text.append(token)
            scores = following(model, [prompt + text])[0]
            tags.append(p_tag(scores))
            if len(text) == new_tokens:
                break
            token = tokens_after(scores, decoder, noise[len(text)][number:][:1])[0]
            logp += scores[token]
        ends = [
            tag
            for place, tag in enumerate(tags)
            if place + 1 == len(text) or STARTS[text[place + 1]]
        ]
        tag = sum(ends) / len(ends) if ends else 0.0
        value = begin[first] + logp / (len(text) + finished) - decoder.tag_weight * tag
        worst = max(worst, tag)
        if best is None or value > best[0]:
            best = (value, Decoded(text, finished, False, logp, tags))
        if decoder.retry_share and tag <= decoder.retry_share * decoder.max_tag_probability:
            break  # it does not ask for another
    assert best is not None
    if decoder.max_tag_probability is not None and worst > decoder.max_tag_probability:
        return Decoded([], False, True, best[1].log_probability, [])
    return best[1]


def same(left: Decoded, right: Decoded) -> bool:
    """Equal token for token, and in every number up to rounding, but for what was not returned."""
    if left.short_circuited and right.short_circuited and not right.tokens:
        return left.tokens == [] and not left.finished
    exact = (left.tokens, left.finished, left.short_circuited) == (
        right.tokens,
        right.finished,
        right.short_circuited,
    )
    numbers = (
        [left.log_probability, *left.tag_probabilities],
        [right.log_probability, *right.tag_probabilities],
    )
    near = all(
        math.isclose(*pair, rel_tol=1e-6, abs_tol=1e-5) for pair in zip(*numbers, strict=True)
    )
    return exact and near


# The rules.


def test_half_of_an_odd_count_drops_the_smaller_half() -> None:
    evidence, likelihood = torch.tensor([[0.5, 0.1, 0.9, 0.3, 0.7]]), torch.full((1, 5), -1.0)
    assert rules_of.keep_half(evidence, likelihood).tolist() == [[True, True, False, True, False]]


def test_one_candidate_is_never_dropped() -> None:
    assert rules_of.keep_half(
        torch.tensor([[1.0, 0.0]]), torch.tensor([[-5.0, -INFINITY]])
    ).tolist() == [[True, False]]


def test_of_equal_evidence_the_less_likely_is_dropped_then_the_later() -> None:
    likelihood = torch.tensor([[-3.0, -1.0, -2.0, -2.0]])
    assert rules_of.keep_half(torch.ones(1, 4), likelihood).tolist() == [[False, True, True, False]]


def test_half_counts_only_what_is_a_candidate() -> None:
    likelihood = torch.tensor([[-1.0, -INFINITY, -2.0, -INFINITY]])
    assert rules_of.keep_half(torch.tensor([[0.9, 0.0, 0.1, 0.0]]), likelihood).tolist() == [
        [False, False, True, False]
    ]


def test_the_threshold_drops_only_what_is_above_it() -> None:
    kept = rules_of.keep_below(torch.tensor([[0.1, 0.2, 0.3]]), torch.full((1, 3), -1.0), 0.2)
    assert kept.tolist() == [[True, True, False]]


def test_the_threshold_never_drops_all() -> None:
    kept = rules_of.keep_below(
        torch.tensor([[0.9, 0.4, 0.4]]), torch.tensor([[-1.0, -3.0, -2.0]]), 0.1
    )
    assert kept.tolist() == [[False, False, True]]


def test_the_best_are_the_likeliest_and_of_equals_the_first() -> None:
    assert rules_of.likeliest(torch.tensor([[-2.0, -INFINITY, -2.0, -0.5]]), 3).tolist() == [
        [3, 0, 2]
    ]


def test_noise_is_the_prompt_s_own_and_the_seed_s() -> None:
    first = rules_of.noise([5, 6], 1, 3, 4)
    assert (first == rules_of.noise([5, 6], 1, 3, 4)).all()
    assert (first != rules_of.noise([5, 6], 2, 3, 4)).all()
    assert (first != rules_of.noise([5, 7], 1, 3, 4)).all()


# The search against the literal one.

PUBLISHED = SafeBeam(beams=4, candidates=4, drop="half")
VARIANTS = {
    "published": PUBLISHED,
    "two of three": changed(PUBLISHED, beams=2, candidates=3),
    "wide": changed(PUBLISHED, beams=3, candidates=7),
    "one beam": changed(PUBLISHED, beams=1, candidates=5),
    "boundary": changed(PUBLISHED, drop="boundary"),
    "absolute": changed(PUBLISHED, drop="absolute", max_tag_probability=0.02),
    "absolute, strict": changed(PUBLISHED, drop="absolute", max_tag_probability=1e-4),
    "random": changed(PUBLISHED, drop="random"),
    "floor": changed(PUBLISHED, min_probability=0.05),
    "boundary, floor": changed(PUBLISHED, drop="boundary", min_probability=0.02, beams=3),
    "short circuit": changed(PUBLISHED, short_circuit=True),
    "beam": BeamSearch(beams=3, candidates=3),
    "beam, wide": BeamSearch(beams=2, candidates=5),
    "beam, short circuit": BeamSearch(beams=3, candidates=4, short_circuit=True),
    "greedy": Greedy(),
    "branch": Branch(branches=5, tag_weight=10.0),
    "branch, refusing": Branch(branches=4, tag_weight=4.0, max_tag_probability=0.05),
    "branch, lazy": Branch(branches=5, tag_weight=4.0, max_tag_probability=0.05, retry_share=0.5),
    "branch, floor": Branch(branches=6, tag_weight=50.0, min_probability=0.03),
    "branch, unweighted": Branch(branches=6, tag_weight=0.0),
    "one branch": Branch(branches=1, tag_weight=1.0),
    "drawn": changed(PUBLISHED, temperature=1.3),
    "drawn, top-p, floor": changed(PUBLISHED, temperature=0.7, top_p=0.5, min_probability=0.01),
    "drawn, random": changed(PUBLISHED, temperature=1.0, drop="random"),
    "drawn, greedy": Greedy(top_p=0.9),
    "drawn, branch": Branch(branches=4, tag_weight=10.0, temperature=1.5, top_p=0.8),
}


@dataclass(frozen=True)
class Case:
    """A model, prompts, ends of a text and a decoder near a variant, all drawn from a number."""

    model: LlamaForCausalLM
    prompts: list[list[int]]
    end: tuple[int, ...]
    new_tokens: int
    decoder: Decoder
    seed: int

    @classmethod
    def of(cls, number: int, variant: Decoder) -> "Case":
        draw = random.Random(number)
        values: dict[str, object] = {}
        if isinstance(variant, SafeBeam):
            values |= {"beams": draw.randint(1, 5), "candidates": draw.randint(3, 6)}
        if isinstance(variant, Branch) and variant.branches > 1:
            values |= {"branches": draw.randint(2, 8)}
        if bound := getattr(variant, "max_tag_probability", None):
            values |= {"max_tag_probability": bound * draw.choice([0.1, 1, 3])}
        ends = (END, OTHER_END, *range(10, 10 + 3 * draw.randrange(3)))
        model, prompts, length = llama(number), prompts_of(number, 3), draw.randint(3, 8)
        return cls(model, prompts, ends, length, changed(variant, **values), number)

    def run(self, prompts: list[list[int]], batch: int) -> list[Decoded]:
        options = {"new_tokens": self.new_tokens, "end": self.end, "seed": self.seed}
        return run(self.model, prompts, self.decoder, batch=batch, **options)

    def literal(self, prompt: list[int]) -> Decoded:
        options = {"new_tokens": self.new_tokens, "end": self.end, "seed": self.seed}
        return literal(self.model, prompt, self.decoder, **options)


QUICK, FULL = 6, 25  # cases of each variant: 500 with --full


@pytest.mark.parametrize("name", VARIANTS)
def test_equals_the_literal_algorithm_batched_and_alone(
    name: str, pytestconfig: pytest.Config
) -> None:
    for number in range(FULL if pytestconfig.getoption("--full") else QUICK):
        case = Case.of(number, VARIANTS[name])
        expected = [case.literal(prompt) for prompt in case.prompts]
        batched = case.run(case.prompts, batch=3)
        (alone,) = case.run(case.prompts[:1], batch=1)
        assert all(map(same, batched, expected)) and same(alone, expected[0]), (name, number)


def test_there_are_500_cases() -> None:
    assert len(VARIANTS) * FULL >= 500


@pytest.mark.parametrize("candidates", [1, 2])
def test_too_few_candidates_are_allowed_with_a_warning(candidates: int) -> None:
    with pytest.warns(UserWarning, match="likelihood chooses nothing"):
        decoder = changed(PUBLISHED, candidates=candidates)
    model, prompt = llama(1), prompts_of(1)[0]
    assert same(run(model, [prompt], decoder)[0], literal(model, prompt, decoder))


def test_the_cases_include_what_they_are_about() -> None:
    ends = (END, OTHER_END, *range(10, 16))
    published, stopped, refused = (
        [
            decoded
            for seed in range(6)
            for decoded in run(llama(seed), prompts_of(seed), VARIANTS[name], end=ends)
        ]
        for name in ("published", "short circuit", "branch, refusing")
    )
    assert {decoded.finished for decoded in published} == {True, False}
    assert any(decoded.short_circuited for decoded in stopped)
    assert {decoded.short_circuited for decoded in refused} == {True, False}
    assert all(not decoded.tokens for decoded in refused if decoded.short_circuited)


def test_long_texts_reuse_and_add_slots() -> None:
    model, prompts = llama(2), [[9, 8, 30], [11]]
    for prompt, decoded in zip(
        prompts, run(model, prompts, PUBLISHED, new_tokens=45, end=()), strict=True
    ):
        assert same(decoded, literal(model, prompt, PUBLISHED, new_tokens=45, end=()))


def test_other_positions_and_attention() -> None:
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=32, initializer_range=0.6
    )
    torch.manual_seed(3)
    model, prompts = GPT2LMHeadModel(config).double().eval(), prompts_of(3)
    model.set_attn_implementation("eager")
    for prompt, decoded in zip(prompts, run(model, prompts, PUBLISHED), strict=True):
        assert same(decoded, literal(model, prompt, PUBLISHED))


# Properties.


def written(decoder: Branch, **options: int) -> list[list[Decoded]]:
    """What a decoder writes for many prompts of several models."""
    cases = [(llama(seed), prompts_of(seed, 12)) for seed in range(6)]
    return [run(model, prompts, decoder, **options) for model, prompts in cases]


def test_a_prompt_is_refused_under_every_bound_below_its_score() -> None:
    # As calibration does: scored without a bound, and decoded with each of the scores as one.
    decoder = Branch(branches=4, tag_weight=4.0, retry_share=0.5)
    scored = written(decoder)
    for bound in (0.02, 0.05, 0.1, *(text.score for text in scored[0])):
        refusing = written(changed(decoder, max_tag_probability=bound))
        for free, bounded in zip(scored, refusing, strict=True):
            assert [text.short_circuited for text in bounded] == [
                text.score > bound for text in free
            ]


def test_branches_are_written_only_where_they_are_asked_for_and_stop_where_they_are_refused() -> (
    None
):
    lazy = Branch(branches=4, tag_weight=4.0, max_tag_probability=0.05, retry_share=0.5)
    every = changed(lazy, retry_share=None, max_tag_probability=None)
    counts = set()
    for few, all_ in zip(written(lazy, new_tokens=12), written(every, new_tokens=12), strict=True):
        for one, whole in zip(few, all_, strict=True):
            counts.add((len(one.written), one.short_circuited))
            longest = whole.written[: len(one.written)]
            assert all(map(int.__le__, one.written, longest))
            # Only the last one may have been cut, and only in a refusal.
            assert one.short_circuited or one.written == longest
            assert one.written[:-1] == longest[:-1]
    assert {(1, False), (1, True), (2, False), (2, True)} <= counts


def begun(model, prompts: list[list[int]], decoder: Decoder, bounds: list[int]) -> Search:
    return search_class(decoder)(
        model,
        prompts,
        decoder,
        new_tokens=bounds,
        tag=TAG,
        end=(END,),
        word_starts=STARTS,
        seed=0,
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_texts_of_one_batch_have_bounds_of_their_own(name: str) -> None:
    model, prompts, bounds = llama(5), prompts_of(5, 6), [1, 9, 3, 3, 12, 1]
    with torch.inference_mode():
        together = begun(model, prompts, VARIANTS[name], bounds).run()
    for prompt, bound, decoded in zip(prompts, bounds, together, strict=True):
        assert same(decoded, run(model, [prompt], VARIANTS[name], new_tokens=bound)[0])


def test_a_text_at_its_bound_grows_past_no_position() -> None:
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=24)
    torch.manual_seed(3)
    model = GPT2LMHeadModel(config).double().eval()
    with torch.inference_mode():  # of nine rows one is less than an eighth
        texts = begun(model, [[9] * 22] + [[9, 8]] * 8, Greedy(), [2] + [20] * 8).run()
    assert len(texts) == 9 and len(texts[0].tokens) <= 2


@pytest.mark.parametrize("name", ["published", "branch", "greedy", "random"])
def test_a_cancelled_prompt_leaves_the_others_as_they_are(name: str) -> None:
    model, prompts = llama(6), prompts_of(6)
    with torch.inference_mode():
        search = begun(model, prompts, VARIANTS[name], [12] * 4)
        search.step()
        search.cancel(1)
        while search.decoded.count(None) > 1:
            search.step()
    others = [0, 2, 3]
    alone = run(model, [prompts[index] for index in others], VARIANTS[name], new_tokens=12)
    assert search.decoded[1] is None
    assert all(same(search.decoded[index], text) for index, text in zip(others, alone, strict=True))


def constant_tag_model(seed: int) -> LlamaForCausalLM:
    """A model that never gives the tag: its p(tag) is 0 everywhere."""
    model = llama(seed, tie_word_embeddings=False)
    model.lm_head = torch.nn.Linear(16, VOCABULARY, bias=True, dtype=torch.float64)
    torch.nn.init.normal_(model.lm_head.weight)
    with torch.no_grad():
        model.lm_head.bias[TAG] = -INFINITY
    return model


def test_where_p_tag_says_nothing_half_is_a_beam_search() -> None:
    model, prompts = constant_tag_model(4), prompts_of(4)
    # Of equal p(tag) the less likely half is dropped; from the first step on, four of eight
    # candidates are left.
    beam = run(model, prompts, BeamSearch(beams=4, candidates=4), end=())
    half = run(model, prompts, changed(PUBLISHED, candidates=8), end=())
    assert all(same(left, right) for left, right in zip(half, beam, strict=True))


@pytest.mark.parametrize(
    "name",
    ["published", "random", "boundary", "absolute", "short circuit", "beam", "branch, refusing"],
)
def test_a_batch_does_not_matter(name: str) -> None:
    model, prompts = llama(5), prompts_of(5, 9)
    alone = [run(model, [prompt], VARIANTS[name])[0] for prompt in prompts]
    for batch in (2, 5, 9):
        together = run(model, prompts[::-1], VARIANTS[name], batch=batch)[::-1]
        assert all(same(left, right) for left, right in zip(alone, together, strict=True))


def test_sampling_does_not_depend_on_the_batch_but_on_the_seed() -> None:
    model, prompts = llama(6), prompts_of(6, 6)
    decoder = TopK(top_k=20, temperature=1.5)
    alone = [run(model, [prompt], decoder)[0] for prompt in prompts]
    assert all(
        same(left, right) for left, right in zip(alone, run(model, prompts, decoder), strict=True)
    )
    other = run(model, prompts, decoder, seed=1)
    assert [decoded.tokens for decoded in other] != [decoded.tokens for decoded in alone]


def test_the_random_control_is_set_by_its_seed() -> None:
    model, prompts = llama(7), prompts_of(7)
    first, again, other = (
        [decoded.tokens for decoded in run(model, prompts, VARIANTS["random"], seed=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_sampling_from_one_token_is_greedy() -> None:
    model, prompts = llama(8), prompts_of(8)
    assert run(model, prompts, TopK(top_k=1), seed=9) == run(model, prompts, Greedy())


def literal_draw(scores: list[float], decoder: TopK, mark: float) -> int:
    """Walk along the `top_k` likeliest tokens, each as wide as its probability, to where the mark
    falls.
    """
    tokens = [
        token
        for token in top(scores, decoder.top_k, -INFINITY)
        if math.exp(scores[token]) >= decoder.min_probability
    ]
    widths = [math.exp(scores[token] / decoder.temperature) for token in tokens]
    mark *= sum(widths)
    for token, width in zip(tokens, widths, strict=True):
        if mark < width:
            return token
        mark -= width
    return tokens[-1]


@pytest.mark.parametrize(
    "values",
    [{}, {"temperature": 3.0}, {"temperature": 0.5}, {"min_probability": 0.06}, {"top_k": 2}],
)
def test_sampling_equals_the_literal_draw(values: dict) -> None:
    model, prompts = llama(9), prompts_of(9, 40)
    decoder = changed(TopK(top_k=8), **values)
    drawn = [
        decoded.tokens[0] for decoded in run(model, prompts, decoder, new_tokens=1, end=(), seed=3)
    ]
    marks = [rules_of.noise(prompt, 3, 1, 1)[0, 0] for prompt in prompts]
    expected = [
        literal_draw(following(model, [prompt])[0], decoder, mark)
        for prompt, mark in zip(prompts, marks, strict=True)
    ]
    assert drawn == expected


def test_a_drawn_tag_short_circuits_and_is_else_never_drawn() -> None:
    model, prompts = llama(0), prompts_of(0, 8)
    decoder = TopK(top_k=VOCABULARY, temperature=3.0)
    stopped = run(model, prompts, changed(decoder, short_circuit=True), new_tokens=30, end=())
    assert any(decoded.short_circuited for decoded in stopped)
    assert all(
        TAG not in decoded.tokens
        for decoded in stopped + run(model, prompts, decoder, new_tokens=30, end=())
    )


def test_greedy_equals_transformers() -> None:
    model, prompts = llama(10), prompts_of(10)
    for prompt, decoded in zip(prompts, run(model, prompts, Greedy(), new_tokens=12), strict=True):
        given = torch.tensor([prompt])
        options = dict(
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=END,
            pad_token_id=END,
            suppress_tokens=[TAG],
        )
        theirs = model.generate(given, attention_mask=torch.ones_like(given), **options)[
            0, len(prompt) :
        ].tolist()
        assert decoded.tokens + [END] * decoded.finished == theirs


def test_beam_equals_transformers_where_nothing_ends() -> None:
    model, prompts = llama(11), prompts_of(11)
    for prompt, decoded in zip(
        prompts, run(model, prompts, BeamSearch(beams=4, candidates=4), end=()), strict=True
    ):
        given = torch.tensor([prompt])
        options = dict(
            num_beams=4, do_sample=False, max_new_tokens=7, eos_token_id=None, pad_token_id=0
        )
        theirs = model.generate(
            given, attention_mask=torch.ones_like(given), suppress_tokens=[TAG], **options
        )
        assert decoded.tokens == theirs[0, len(prompt) :].tolist()


def test_a_model_without_the_tag_can_be_decoded() -> None:
    decoded = run(llama(12), [[9, 10]], BeamSearch(beams=2, candidates=2), tag=None)[0]
    assert decoded.tokens and decoded.tag_probabilities == []


# As Transformers calls it.


def padded(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, prompts))
    return {
        "input_ids": torch.tensor([[END] * (longest - len(prompt)) + prompt for prompt in prompts]),
        "attention_mask": torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        ),
    }


OPTIONS = dict(max_new_tokens=7, eos_token_id=END, pad_token_id=END)


@pytest.mark.parametrize("name", ["published", "absolute", "branch", "beam"])
def test_model_generate_gives_the_same_texts(name: str) -> None:
    model, prompts = llama(13), prompts_of(13)
    custom, inputs = CustomGenerate(VARIANTS[name], TAG, STARTS), padded(prompts)
    written = model.generate(**inputs, **OPTIONS, custom_generate=custom)
    expected = run(model, prompts, VARIANTS[name])
    assert (written[:, : inputs["input_ids"].shape[1]] == inputs["input_ids"]).all()
    for row, decoded in zip(
        written[:, inputs["input_ids"].shape[1] :].tolist(), expected, strict=True
    ):
        whole = decoded.tokens + [END] * decoded.finished
        assert row[: len(whole)] == whole and set(row[len(whole) :]) <= {END}


def test_model_generate_also_gives_p_tag_and_ends_a_refused_text_with_the_tag() -> None:
    model, prompts = llama(1), prompts_of(1)
    custom, inputs = (
        CustomGenerate(changed(VARIANTS["branch, refusing"], max_tag_probability=0.0), TAG, STARTS),
        padded(prompts),
    )
    output = model.generate(
        **inputs, **OPTIONS, custom_generate=custom, return_dict_in_generate=True
    )
    assert [text.short_circuited for text in output.decoded] == [True] * len(prompts)
    assert output.sequences[:, -1].tolist() == [TAG] * len(prompts)


@pytest.mark.parametrize("name", ["published", "one branch"])
def test_watch_is_called_with_p_tag_at_every_step(name: str) -> None:
    calls: list[tuple[int, list[int], list[float]]] = []
    model, prompts = llama(14), prompts_of(14, 5)
    custom = CustomGenerate(VARIANTS[name], TAG, STARTS, batch=2)
    options = {**OPTIONS, "eos_token_id": None, "return_dict_in_generate": True}
    output = model.generate(
        **padded(prompts),
        **options,
        custom_generate=custom,
        watch=lambda *values: calls.append(values),
    )
    for index, decoded in enumerate(output.decoded):
        own = [(tokens, tags) for row, tokens, tags in calls if row == index]
        assert (
            [len(tokens) for tokens, _ in own]
            == [len(tags) for _, tags in own]
            == list(range(1, 8))
        )
        assert own[-1] == (decoded.tokens, decoded.tag_probabilities)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2}, "num_beams 2"),
        ({"repetition_penalty": 1.5}, "RepetitionPenaltyLogitsProcessor"),
        ({"max_time": 1.0}, "MaxTimeCriteria"),
        ({"do_sample": True, "top_k": 0}, "do_sample=True"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha=0.6"),
        ({"dola_layers": "high"}, "dola_layers=high"),
        ({"output_scores": True, "return_dict_in_generate": True}, "output_scores=True"),
        (
            {"stopping_criteria": StoppingCriteriaList([MaxLengthCriteria(4)])},
            "leave out MaxLengthCriteria",
        ),
        (
            {"stopping_criteria": StoppingCriteriaList([EosTokenCriteria(OTHER_END)])},
            "leave out EosTokenCriteria",
        ),
        ({"inputs_embeds": torch.zeros(1, 2, 16, dtype=torch.float64)}, "without inputs_embeds"),
    ],
)
def test_model_generate_refuses_settings_that_the_search_ignores(
    options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        llama(1).generate(
            **padded([[9, 10]]),
            **OPTIONS,
            **options,
            custom_generate=CustomGenerate(PUBLISHED, TAG),
        )


# Refusals before decoding.


@pytest.mark.parametrize(
    ("decoder", "changes", "message"),
    [
        (PUBLISHED, {"tag": None}, "needs the id of the harmfulness tag"),
        (
            Branch(branches=4, tag_weight=1.0),
            {"tag": None},
            "needs the id of the harmfulness tag",
        ),
        (PUBLISHED, {"tag": VOCABULARY}, "expected a token of the model's vocabulary of 40"),
        (Greedy(), {"batch": 0}, "batch 0: each must be at least 1"),
        (Greedy(), {"new_tokens": 63}, "65 tokens, the model has 64 positions"),
    ],
)
def test_refused_with_what_to_do(decoder: Decoder, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(llama(0), [[9, 10]], decoder, **changes)


def test_a_tokenizer_without_the_tag_is_refused_under_a_decoder_that_reads_it() -> None:
    bpe = Tokenizer(models.BPE({"<end>": 0, "a": 1}, []))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>")
    assert CustomGenerate.of(tokenizer, Greedy()).tag is None
    with pytest.raises(ValueError, match=r"SafeBeam: reads the harmfulness tag, .* use BeamSearch"):
        CustomGenerate.of(tokenizer, PUBLISHED)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt 1: expected at least one token"):
        run(llama(0), [[9], []], PUBLISHED)


def test_a_window_shorter_than_the_text_is_refused() -> None:
    model = llama(0)
    model.config.layer_types, model.config.sliding_window = ["sliding_attention"] * 2, 4
    with pytest.raises(ValueError, match="expected attention over the whole text of 9 tokens"):
        run(model, [[9, 10]], PUBLISHED)


def test_a_broken_model_is_refused() -> None:
    model = llama(0)
    model.model.norm.weight.data[:] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        run(model, [[9, 10]], PUBLISHED)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Greedy, {"beams": 2}, "beams"),
        (BeamSearch, {"beams": 4, "candidates": 2}, "can miss the 4 likeliest texts"),
        (BeamSearch, {"beams": 4, "candidates": 4, "drop": "half"}, "drop"),
        (TopK, {"top_k": 8, "temperature": 0.0}, "greater than 0"),
        (Branch, {"branches": 4, "tag_weight": 1.0, "candidates": 2}, "candidates"),
        (Branch, {"branches": 4, "tag_weight": -1.0}, "greater than or equal to 0"),
        (Branch, {"branches": 0, "tag_weight": 1.0}, "greater than 0"),
        (SafeBeam, {"beams": 4, "candidates": 4, "drop": "half", "tag_weight": 1.0}, "tag_weight"),
        (Greedy, {"temperature": -0.7}, "greater than 0"),
        (
            SafeBeam,
            {"beams": 4, "candidates": 4, "drop": "half", "max_tag_probability": 0.02},
            "belongs to drop: absolute, and only there .* leave it out",
        ),
        (SafeBeam, {"beams": 4, "candidates": 4, "drop": "absolute"}, "add it"),
        (SafeBeam, {"beams": 4, "candidates": 4, "drop": "none"}, "drop"),
    ],
)
def test_contradictory_values_are_refused(kind: type[Decoder], values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_words_begin_with_white_space() -> None:
    vocabulary = {"<end>": 0, "cat": 1, "Ġcat": 2, "s": 3, ".": 4, "Ċ": 5}
    bpe = Tokenizer(models.BPE(vocabulary, []))
    bpe.pre_tokenizer, bpe.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>")
    assert word_starts(tokenizer) == [False, False, True, False, False, True]
