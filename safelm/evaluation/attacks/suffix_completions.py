"""Parts of a suffix attack that need the model: the search for a suffix, and completions with it.

Each part is cached by the model, the prompt and the attack's settings: a new row, model or decoder
attacks only what is new.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safelm.builder.shards import Shard, write_table
from safelm.evaluation.completions import write_completions
from safelm.evaluation.protocol import GenerationSettings
from safelm.models.metadata import knows_tag
from safelm.stats.rates import DIGITS
from specs.document import SUFFIXES

# No suffix, the control, the attack.
PLAIN, RANDOM, OPTIMISED = CONDITIONS = ("plain", "random", "optimised")


def write_suffixes(
    folder: Path,
    *,
    weights: Path,
    is_chat: bool,
    id: str,
    text: str,
    target: str,
    max_new_tokens: int,
    suffix_tokens: int,
    steps: int,
    candidates: int,
    top_k: int,
    tag_weight: float,
    seed: int,
) -> tuple[()]:
    """Search for the suffix of one prompt; write a row of SUFFIXES for each condition.

    There are no rows where the prompt, its suffix and an answer are too long for the model. The
    search starts from the random suffix, so what the two do differs by the search alone.

    Raises:
        SuffixError: if the attacker is to know the tag of a model that has none, or no suffix can
            stand behind the prompt.
    """
    from safelm.decoding import word_starts
    from safelm.decoding.check import positions_of
    from safelm.evaluation.attacks.gcg import Goal, search
    from safelm.evaluation.attacks.prompt_slot import Slot, SuffixError, Tokens, decode, typeable
    from safelm.evaluation.generation import load_completion_model
    from safelm.models.chat import strip_special_tokens, tag_id
    from safelm.seeding import stream

    is_tagged = knows_tag(weights)
    if tag_weight and not is_tagged:
        raise SuffixError(
            f"{weights}: knows no tag, so tag_weight must be 0.0 (got {tag_weight:g})"
        )
    loaded, draw = load_completion_model(weights, is_chat), stream("attack", seed, id)
    model, tokenizer = loaded.model, loaded.tokenizer
    vocabulary = typeable(tokenizer)
    slot = Slot.of(loaded, text, sorted(vocabulary, key=lambda _: draw()))
    if not is_chat and not text[-1:].isspace():
        target = f" {target}"  # a text to continue ends in a word
    target = strip_special_tokens(target)
    target_tokens = tokenizer(target, add_special_tokens=False)["input_ids"]
    tag = tag_id(tokenizer) if is_tagged else None
    goal = Goal.of(model, target_tokens, word_starts(tokenizer), tag, tag_weight)
    # Both the target, for the search, and an answer, for the completion, must fit.
    longest = len(slot.tokens([])) + suffix_tokens + max(len(target_tokens), max_new_tokens)
    suffixes: dict[str, Tokens] = {}
    if longest <= (positions_of(model.config) or longest):
        first = slot.random(suffix_tokens, vocabulary, draw)
        best, _ = search(
            goal,
            slot,
            first,
            vocabulary,
            steps=steps,
            candidates=candidates,
            top_k=top_k,
            draw=draw,
        )
        suffixes = {PLAIN: [], RANDOM: first, OPTIMISED: best}
    rows = []
    for condition, suffix in suffixes.items():
        row = {"id": id, "condition": condition, "target": target}
        row |= {"prompt": slot.text(suffix), "suffix": decode(tokenizer, suffix)}
        rows.append({**row, **_likelihoods(goal, slot.tokens(suffix))})
    write_table(rows, SUFFIXES, folder / ".parquet")
    return ()


def _likelihoods(goal: Any, prompt: Sequence[int]) -> dict[str, float]:
    """Measure what the model thinks of the target behind a prompt, as columns of SUFFIXES."""
    found = goal.of_prompts([prompt])._asdict()
    if goal.tag is None:
        del found["tag_probability"]
    return {name: round(float(value), DIGITS) for name, value in found.items()}


def write_attacked_completions(
    folder: Path,
    *,
    suffixes: Sequence[Shard],
    condition: str,
    weights: Path,
    is_chat: bool,
    settings: GenerationSettings,
) -> tuple[()]:
    """Write a row of COMPLETIONS for every prompt in `suffixes`, under one condition."""
    prompts = []
    for shard in suffixes:
        for row in shard.table().to_pylist():
            if row["condition"] == condition:
                prompts.append((row["id"], row["prompt"]))
    return write_completions(
        folder,
        weights=weights,
        is_chat=is_chat,
        prompts=prompts,
        settings=settings,
    )
