"""Time of SafeBeam beside Transformers' beam search, and beside a search without a cache.

    OMP_NUM_THREADS=1 python -m benchmarks.safebeam
    OMP_NUM_THREADS=1 python -m benchmarks.safebeam --profile    the slowest operations of SafeBeam

The model is a random Llama of the shape `nano`. Nothing ends a text, so every decoder writes all
its tokens. Times are CPU seconds, so that other work on the machine counts for little.
"""

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

VOCABULARY = 1536
TAG = 3
BEAMS = 4
CANDIDATES = 4
ROWS = BEAMS * CANDIDATES
PUBLISHED = "SafeBeam, as published"
DECODERS = {
    PUBLISHED: SafeBeam(beams=BEAMS, candidates=CANDIDATES, drop="half"),
    "SafeBeam, absolute": SafeBeam(
        beams=BEAMS, candidates=CANDIDATES, drop="absolute", max_tag_probability=0.02
    ),
    "SafeBeam, boundary": SafeBeam(beams=BEAMS, candidates=CANDIDATES, drop="boundary"),
    "branch 8": Branch(branches=8, tag_weight=240.0),
    "random drop": SafeBeam(beams=BEAMS, candidates=CANDIDATES, drop="random"),
    f"beam {BEAMS}": BeamSearch(beams=BEAMS, candidates=BEAMS),
    f"beam {ROWS}": BeamSearch(beams=ROWS, candidates=ROWS),
    "greedy": Greedy(),
    "top-k 50": TopK(top_k=50),
}
Prompts = list[list[int]]


def nano() -> LlamaForCausalLM:
    """Make a random model of the shape nano."""
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


def random_prompts(count: int) -> Prompts:
    """Make prompts of 16 to 24 random tokens."""
    draw = random.Random(1)
    prompts = []
    for _ in range(count):
        length = draw.randint(16, 24)
        prompts.append([draw.randrange(8, VOCABULARY) for _ in range(length)])
    return prompts


def run_transformers(model: Any, prompts: Prompts, beams: int, new_tokens: int) -> None:
    """Run Transformers' own search over all prompts at once, padded on the left."""
    longest = max(map(len, prompts))
    tokens, mask = [], []
    for prompt in prompts:
        padding = longest - len(prompt)
        tokens.append([0] * padding + prompt)
        mask.append([0] * padding + [1] * len(prompt))
    model.generate(
        torch.tensor(tokens),
        attention_mask=torch.tensor(mask),
        num_beams=beams,
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=None,
        pad_token_id=0,
        suppress_tokens=[TAG],
    )


@torch.inference_mode()
def run_without_cache(model: LlamaForCausalLM, prompts: Prompts, new_tokens: int) -> None:
    """Run only the forward passes of a SafeBeam that reads every candidate's text at each step."""
    for prompt in prompts:
        text = torch.tensor([prompt + prompt[:1] * new_tokens]).expand(ROWS, -1)
        for step in range(1, new_tokens + 1):
            model(text[:, : len(prompt) + step], use_cache=False, logits_to_keep=1)


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Return the CPU seconds of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def slowest_operations(work: Callable[[], object]) -> str:
    """Return a table of the operations that take the most time, without what they call."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        work()
    return recorded.key_averages().table(
        sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=40
    )


def main() -> None:
    """Time all decoders, and print each beside SafeBeam as published."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("--new-tokens", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--sample",
        type=int,
        default=15,
        help="prompts that are read without a cache; the time is scaled up to all",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="only print the slowest operations of SafeBeam as published",
    )
    options = parser.parse_args()
    model = nano()
    prompts = random_prompts(options.prompts)
    decode = partial(
        generate,
        model,
        prompts,
        new_tokens=options.new_tokens,
        tag=TAG,
        end=[],
        batch=options.batch,
        word_starts=[token % 2 == 0 for token in range(VOCABULARY)],
    )
    if options.profile:
        print(slowest_operations(partial(decode, DECODERS[PUBLISHED])))
        return
    rows: dict[str, float] = {}
    for name, decoder in DECODERS.items():
        rows[name] = seconds(partial(decode, decoder), options.repeats)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for beams in (1, BEAMS, ROWS):
        search = partial(run_transformers, model, prompts, beams, options.new_tokens)
        rows[f"Transformers, {beams} beams"] = seconds(search)
    sample = prompts[: options.sample]
    reread = seconds(partial(run_without_cache, model, sample, options.new_tokens))
    rows["without a cache, forward passes alone"] = reread * len(prompts) / len(sample)
    print(
        f"{len(prompts)} prompts, {options.new_tokens} new tokens, k={BEAMS}, N={CANDIDATES}, "
        f"{torch.get_num_threads()} thread(s)"
    )
    print(f"{'':40}{'seconds':>9}{'/ SafeBeam':>12}")
    for name, value in rows.items():
        print(f"{name:40}{value:9.2f}{value / rows[PUBLISHED]:12.2f}")
    print(f"peak memory of SafeLM's decoders: {memory:.2f} GB")


if __name__ == "__main__":
    main()
