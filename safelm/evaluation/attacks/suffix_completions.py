"""Parts of a suffix attack that need the model: the search for suffixes, and completions.

The key of a part has the model, the prompt and the attack's settings. So only the new prompts of a
new row, model or decoder are attacked.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safelm.builder.shards import Shard, write_table
from safelm.evaluation.bounds import GenerationSettings
from safelm.evaluation.completions import write_completions
from safelm.models import knows_tag
from safelm.stats.rates import DIGITS
from specs.document import SUFFIXES

if TYPE_CHECKING:
    from safelm.evaluation.attacks.gcg import Goal
    from safelm.evaluation.generation import CompletionModel

# No suffix, the control with a random one, and the attack.
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

    Writes no rows if the prompt with a suffix and an answer is too long for the model. The search
    starts from the random suffix, so the two conditions differ only by the search.

    Raises:
        SuffixError: if `tag_weight` is given for a model that knows no tag, or if the prompt can
            take no suffix.
    """
    from safelm.decoding.check import positions_of
    from safelm.evaluation.attacks.gcg import search
    from safelm.evaluation.attacks.prompt_slot import Slot, Tokens, decode, typeable
    from safelm.evaluation.generation import load_completion_model
    from safelm.seeding import stream

    loaded = load_completion_model(weights, is_chat)
    draw = stream("attack", seed, id)
    model = loaded.model
    tokenizer = loaded.tokenizer
    vocabulary = typeable(tokenizer)
    slot = Slot.of(loaded, text, sorted(vocabulary, key=lambda _: draw()))
    if not is_chat and not text[-1:].isspace():
        # A text to continue ends in a word.
        target = f" {target}"
    goal, target = _goal(weights, loaded, target, tag_weight)
    # The search reads the target after the prompt, the completion is an answer there.
    longest = len(slot.tokens([])) + suffix_tokens + max(len(goal.target), max_new_tokens)
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


def _goal(
    weights: Path,
    loaded: "CompletionModel",
    target: str,
    tag_weight: float,
) -> tuple["Goal", str]:
    """Return the goal of a search, and the target without special tokens."""
    from safelm.decoding import word_starts
    from safelm.evaluation.attacks.gcg import Goal
    from safelm.evaluation.attacks.prompt_slot import SuffixError
    from safelm.models.chat import strip_special_tokens, tag_id

    is_tagged = knows_tag(weights)
    if tag_weight and not is_tagged:
        raise SuffixError(
            f"{weights}: knows no tag, so tag_weight must be 0.0 (got {tag_weight:g})"
        )
    tokenizer = loaded.tokenizer
    target = strip_special_tokens(target)
    tokens = tokenizer(target, add_special_tokens=False)["input_ids"]
    tag = tag_id(tokenizer) if is_tagged else None
    goal = Goal.of(loaded.model, tokens, word_starts(tokenizer), tag, tag_weight)
    return goal, target


def _likelihoods(goal: "Goal", prompt: Sequence[int]) -> dict[str, float]:
    """Measure the likelihood of the target after a prompt, as columns of SUFFIXES."""
    found = goal.of_prompts([list(prompt)])._asdict()
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
