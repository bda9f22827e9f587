"""Completions of attacked prompts: every kind of attack, under all its conditions.

The key of a part has the model, the prompts, the decoders and the attack's settings, but no judge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from safelm.builder.shards import Shard, write_table
from safelm.evaluation.completions import generate_completions
from specs.document import ATTEMPTS

# No suffix, the control with a random one, and the attack.
PLAIN, RANDOM, OPTIMISED = "plain", "random", "optimised"
Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Attempt:
    """An attack on a model.

    Attributes:
        prompts: (id, text, target) of each; the target is "" for an attack that has none.
        row: keys of its row, and max_new_tokens.
        source: the folder of dialogues of an attack that reads some.
        settings: GenerationSettings, for completions.
    """

    weights: Path
    is_chat: bool
    prompts: Sequence[tuple[str, str, str]]
    row: dict[str, Any]
    source: Any
    settings: Any = None

    def complete(self, condition: str) -> Rows:
        """Yield rows of ATTEMPTS: completions of the prompts."""
        texts = [(id, text) for id, text, _ in self.prompts]
        for row in generate_completions(self.weights, self.is_chat, texts, self.settings):
            yield {"condition": condition, **row}


def write_attempts(folder: Path, *, attempt: Attempt, suffixes: Sequence[Shard]) -> tuple[()]:
    """Write the rows of ATTEMPTS of an attack; `suffixes` are the parts with its suffixes."""
    from safelm.evaluation.attacks.abliteration import abliterated

    kinds: Any = {
        "suffix": partial(with_suffixes, suffixes),
        "prefill": prefilled,
        "abliteration": abliterated,
        "best_of": drawn,
    }
    rows = kinds[attempt.row["kind"]](attempt)
    write_table([*rows], ATTEMPTS, folder / ".parquet")
    return ()


def with_suffixes(suffixes: Sequence[Shard], attempt: Attempt) -> Rows:
    """Complete prompts without a suffix, with a random one and with the optimised one."""
    found = [row for shard in suffixes for row in shard.table().to_pylist()]
    prompts = [(row["id"], row["prompt"], "") for row in found]
    completed = replace(attempt, prompts=prompts).complete(PLAIN)
    for row, completion in zip(found, completed, strict=True):
        yield completion | row


def prefilled(attempt: Attempt) -> Rows:
    """Begin answers with so many tokens of a target; the control is this beginning alone."""
    from safelm.evaluation.attacks.prompt_slot import decode
    from safelm.evaluation.generation import load_completion_model

    model = load_completion_model(attempt.weights, attempt.is_chat)
    texts = [text for _, text, _ in attempt.prompts]
    targets = [model.answer_tokens(text, target) for _, text, target in attempt.prompts]
    for count in attempt.row["tokens"]:
        openings = [tokens[:count] for tokens in targets]
        answers = model.complete(texts, attempt.settings, openings)
        for (id, *_), opening, answer in zip(attempt.prompts, openings, answers, strict=True):
            found = {"condition": f"prefill_{count}", "id": id, **answer}
            yield found
            alone = {"condition": f"alone_{count}", "completion": decode(model.tokenizer, opening)}
            yield {**found, **alone, "short_circuited": False, "tag_probability": None}


def drawn(attempt: Attempt) -> Rows:
    """Draw several answers at each point of a grid; the control is the decoder as it is.

    All drawn answers together are the condition `worst`.
    """
    row = attempt.row
    settings = attempt.settings
    yield from attempt.complete(PLAIN)
    for temperature, top_p, sample in product(
        row["temperatures"], row["top_p"], range(row["samples"])
    ):
        changed = {"temperature": temperature, "top_p": top_p}
        decoder = settings.decoder.model_copy(update=changed)
        random = replace(settings, decoder=decoder, seed=row["seed"] + sample)
        condition = f"temperature_{temperature:g}_top_p_{top_p:g}"
        for found in replace(attempt, settings=random).complete(condition):
            yield found
            yield {**found, "condition": "worst"}
