"""Suffix attacks: the search for the suffix of one prompt.

The key of a part has the model, the prompt and the attack's settings. So only the new prompts of a
new row or model are searched for.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelm.builder.shards import write_table
from safelm.evaluation.attacks.attempts import OPTIMISED, PLAIN, RANDOM, Attempt
from safelm.models import knows_tag
from safelm.stats.rates import DIGITS
from specs.document import SUFFIXES

if TYPE_CHECKING:
    from safelm.evaluation.attacks.gcg import Goal
    from safelm.evaluation.generation import CompletionModel


def write_suffixes(folder: Path, *, attempt: Attempt) -> tuple[()]:
    """Search for the suffix of the prompt of an attempt; write a row of SUFFIXES by condition.

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

    row = attempt.row
    ((id, text, target),) = attempt.prompts
    loaded = load_completion_model(attempt.weights, attempt.is_chat)
    draw = stream("attack", row["seed"], id)
    model = loaded.model
    tokenizer = loaded.tokenizer
    vocabulary = typeable(tokenizer)
    slot = Slot.of(loaded, text, sorted(vocabulary, key=lambda _: draw()))
    sought = loaded.answer_tokens(text, target)
    goal = _goal(attempt, loaded, sought)
    # The search reads the target after the prompt, the completion is an answer there.
    count = row["suffix_tokens"]
    longest = len(slot.tokens([])) + count + max(len(goal.target), row["max_new_tokens"])
    suffixes: dict[str, Tokens] = {}
    if longest <= (positions_of(model.config) or longest):
        first = slot.random(count, vocabulary, draw)
        best, _ = search(
            goal,
            slot,
            first,
            vocabulary,
            draw=draw,
            **{name: row[name] for name in ("steps", "candidates", "top_k")},
        )
        suffixes = {PLAIN: [], RANDOM: first, OPTIMISED: best}
    rows = []
    for condition, suffix in suffixes.items():
        found: Any = {"id": id, "condition": condition, "target": decode(tokenizer, sought)}
        found |= {"prompt": slot.text(suffix), "suffix": decode(tokenizer, suffix)}
        likelihood = goal.of_prompts([slot.tokens(suffix)])._asdict()
        if goal.tag is None:
            del likelihood["tag_probability"]
        for name, value in likelihood.items():
            found[f"target_{name}"] = round(float(value), DIGITS)
        rows.append(found)
    write_table(rows, SUFFIXES, folder / ".parquet")
    return ()


def _goal(attempt: Attempt, loaded: "CompletionModel", sought: list[int]) -> "Goal":
    """Return the goal of a search for these tokens."""
    from safelm.decoding import word_starts
    from safelm.evaluation.attacks.gcg import Goal
    from safelm.evaluation.attacks.prompt_slot import SuffixError
    from safelm.models.chat import tag_id

    weight = attempt.row["tag_weight"]
    is_tagged = knows_tag(attempt.weights)
    if weight and not is_tagged:
        raise SuffixError(
            f"{attempt.weights}: knows no tag, so tag_weight must be 0.0 (got {weight:g})"
        )
    tokenizer = loaded.tokenizer
    tag = tag_id(tokenizer) if is_tagged else None
    return Goal.of(loaded.model, sought, word_starts(tokenizer), tag, weight)
