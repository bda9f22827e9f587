"""Look for the suffix of one prompt, and ask prompts with their suffixes: what the stage `attack`
is made of.

Each is kept by the model, the prompt and the attack's dials: a new row, model or decoder attacks
only what is new. The model is imported when there is something to ask, as in
safelm/evaluation/completions.py, which does the asking."""

from collections.abc import Sequence
from pathlib import Path

from safelm.builder.shards import Shard, write_table
from safelm.evaluation.completions import ask
from safelm.models.metadata import knows_tag
from safelm.stats.rates import DIGITS
from specs.decoder import Decoder as Dials
from specs.document import SUFFIXES

PLAIN, RANDOM, OPTIMISED = CONDITIONS = (
    "plain",
    "random",
    "optimised",
)  # no suffix, the control, the attack


def attack(
    folder: Path,
    *,
    model: Path,
    chat: bool,
    id: str,
    text: str,
    target: str,
    new_tokens: int,
    tokens: int,
    steps: int,
    candidates: int,
    top: int,
    tag_weight: float,
    seed: int,
) -> tuple[()]:
    """Write a row of SUFFIXES for each condition; none where the prompt, its suffix and an answer
    are too long.

    The random suffix is where the search begins, so what the two do differs by the search alone.
    """
    from safelm.decoding import word_starts
    from safelm.decoding.check import positions_of
    from safelm.evaluation.attacks.gcg import Goal, search
    from safelm.evaluation.attacks.prompt_slot import Slot, SuffixError, Tokens, typeable, typed
    from safelm.evaluation.generation import examinee
    from safelm.models.chat import plain, tag_id
    from safelm.seeding import stream

    if tag_weight and not knows_tag(model):
        raise SuffixError(f"{model}: knows no tag, so tag_weight must be 0.0 (got {tag_weight:g})")
    asked, draw = examinee(model, chat), stream("attack", seed, id)
    tokenizer, tag = asked.tokenizer, tag_id(asked.tokenizer) if knows_tag(model) else None
    vocabulary = typeable(tokenizer)
    slot = Slot.of(asked, text, sorted(vocabulary, key=lambda _: draw()))
    wanted = plain(target if chat or text[-1:].isspace() else f" {target}")
    answer = tokenizer(wanted, add_special_tokens=False)["input_ids"]
    goal = Goal.of(asked.model, answer, word_starts(tokenizer), tag, tag_weight)
    longest = len(slot.tokens([])) + tokens + max(len(answer), new_tokens)
    suffixes: dict[str, Tokens] = {}
    if longest <= (positions_of(asked.model.config) or longest):
        first = slot.random(tokens, vocabulary, draw)
        best, _ = search(
            goal, slot, first, vocabulary, steps=steps, candidates=candidates, top=top, draw=draw
        )
        suffixes = {PLAIN: [], RANDOM: first, OPTIMISED: best}
    rows = []
    for condition, suffix in suffixes.items():
        found = goal.of_prompts([slot.tokens(suffix)])
        said = {
            name: round(float(value), DIGITS)
            for name, value in zip(found._fields, found, strict=True)
        }
        asked_text = {
            "prompt": slot.text(suffix),
            "suffix": typed(tokenizer, suffix),
            "target": wanted,
        }
        rows.append({"id": id, "condition": condition, **asked_text, **said})
    if tag is None:
        rows = [{**row, "tag_probability": None} for row in rows]
    write_table(rows, SUFFIXES, folder / ".parquet")
    return ()


def ask_attacked(
    folder: Path,
    *,
    suffixes: Sequence[Shard],
    condition: str,
    model: Path,
    chat: bool,
    decoder: Dials,
    tokens: int,
    batch: int,
    seed: int,
) -> tuple[()]:
    """Ask what `attack` wrote of some prompts, under one condition; a row of REPLIES for each."""
    rows = [
        row
        for shard in suffixes
        for row in shard.table().to_pylist()
        if row["condition"] == condition
    ]
    prompts = [(row["id"], row["prompt"]) for row in rows]
    return ask(
        folder,
        model=model,
        chat=chat,
        prompts=prompts,
        decoder=decoder,
        tokens=tokens,
        batch=batch,
        seed=seed,
    )
