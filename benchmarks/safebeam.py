"""How long SafeBeam takes beside Transformers' beam search, and beside reading every prefix again
at each step.

    OMP_NUM_THREADS=1 python -m benchmarks.safebeam
    OMP_NUM_THREADS=1 python -m benchmarks.safebeam --profile    where SafeBeam's time goes

A random Llama of the miniature's shape (`nano`); nothing ends a text, so that every decoder writes
all its tokens. Times are of the processor, so that other work on the machine counts for little."""

import argparse
import random
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from safelm.decoding import BeamSearch, Branch, Greedy, SafeBeam, TopK, generate

VOCABULARY, TAG = 1536, 3
BEAMS, CANDIDATES = 4, 4
SAFEBEAM = SafeBeam(beams=BEAMS, candidates=CANDIDATES, drop="half")
DECODERS = {
    "SafeBeam, as published": SAFEBEAM,
    "SafeBeam, absolute": SafeBeam(
        beams=BEAMS, candidates=CANDIDATES, drop="absolute", max_tag_probability=0.02
    ),
    "SafeBeam, boundary": SafeBeam(beams=BEAMS, candidates=CANDIDATES, drop="boundary"),
    "branch 8": Branch(branches=8, tag_weight=240.0),
    "random drop": SafeBeam(beams=BEAMS, candidates=CANDIDATES, drop="random"),
    f"beam {BEAMS}": BeamSearch(beams=BEAMS, candidates=BEAMS),
    f"beam {BEAMS * CANDIDATES}": BeamSearch(
        beams=BEAMS * CANDIDATES, candidates=BEAMS * CANDIDATES
    ),
    "greedy": Greedy(),
    "top-k 50": TopK(top_k=50),
}


def nano() -> LlamaForCausalLM:
    """A random model of the miniature's shape."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=3,
        num_attention_heads=4,
        initializer_range=0.05,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def some_prompts(count: int) -> list[list[int]]:
    """Prompts of 16 to 24 random tokens."""
    draw = random.Random(1)
    return [
        [draw.randrange(8, VOCABULARY) for _ in range(draw.randint(16, 24))] for _ in range(count)
    ]


def theirs(model: Any, prompts: list[list[int]], beams: int, new_tokens: int) -> None:
    """Transformers' own search over all prompts at once, padded on the left."""
    longest = max(map(len, prompts))
    tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.generate(
        tokens,
        attention_mask=mask,
        num_beams=beams,
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=None,
        pad_token_id=0,
        suppress_tokens=[TAG],
    )


@torch.inference_mode()
def rereading(model: LlamaForCausalLM, prompts: list[list[int]], new_tokens: int) -> None:
    """The forward passes alone of a SafeBeam without a cache: every candidate's whole text at every
    step.
    """
    for prompt in prompts:
        text = torch.tensor([prompt + prompt[:1] * new_tokens]).expand(BEAMS * CANDIDATES, -1)
        for step in range(1, new_tokens + 1):
            model(text[:, : len(prompt) + step], use_cache=False, logits_to_keep=1)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The best of some runs, in seconds of the processor."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def profiled(work: Callable[[], object]) -> str:
    """The operations that take the most time, each without what it calls."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    return found.key_averages().table(
        sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=40
    )


def main() -> None:
    """Time everything in one run, and print each beside SafeBeam as printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("--new-tokens", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--sample",
        type=int,
        default=15,
        help="prompts whose prefixes are re-read; scaled up to all",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="only tell where the time of SafeBeam as printed goes",
    )
    options = parser.parse_args()
    model, prompts, tokens = nano(), some_prompts(options.prompts), options.new_tokens
    rows: dict[str, float] = {}
    starts = [token % 2 == 0 for token in range(VOCABULARY)]
    values: dict[str, Any] = {
        "new_tokens": tokens,
        "tag": TAG,
        "end": [],
        "batch": options.batch,
        "word_starts": starts,
    }
    if options.profile:
        print(profiled(partial(generate, model, prompts, SAFEBEAM, **values)))
        return
    for name, decoder in DECODERS.items():
        rows[name] = seconds(partial(generate, model, prompts, decoder, **values), options.repeats)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for beams in (1, BEAMS, BEAMS * CANDIDATES):
        rows[f"Transformers, {beams} beams"] = seconds(
            partial(theirs, model, prompts, beams, tokens), 1
        )
    sample = prompts[: options.sample]
    reread = seconds(partial(rereading, model, sample, tokens), 1) * len(prompts) / len(sample)
    rows["every prefix re-read, forwards alone"] = reread
    own = rows["SafeBeam, as printed"]
    print(
        f"{len(prompts)} prompts, {tokens} new tokens, k={BEAMS}, N={CANDIDATES}, {torch.get_num_threads()} thread(s)"
    )
    print(f"{'':40}{'seconds':>9}{'/ SafeBeam':>12}")
    for name, value in rows.items():
        print(f"{name:40}{value:9.2f}{value / own:12.2f}")
    print(f"peak memory of this house's decoders: {memory:.2f} GB")


if __name__ == "__main__":
    main()
