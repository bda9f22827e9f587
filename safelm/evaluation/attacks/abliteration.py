"""Abliteration: a model that cannot write the direction of refusal.

The direction is a difference of mean hidden states between harmful and harmless requests (Arditi et
al. 2024, arXiv 2406.11717). It is projected out of all that the embeddings and the layers write,
which equals taking it out of their weights. No weights are kept.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from safelm.evaluation.generation import load_completion_model
from safelm.models.chat import TokenLists
from safelm.posttraining.pairs import read_pairs, sample_pairs
from safelm.seeding import generator

# The matrices that write to the residual stream in Llama, Mistral, Qwen and their like.
WRITERS = ("o_proj", "down_proj")
# Later layers are not tried: they are about the next token more than the request (Arditi et al.).
LAST_LAYER = 0.8


def abliterated(attempt: Any) -> Iterator[Any]:
    """Yield the rows of an `Attempt` with and without the direction of refusal, or a random one.

    Raises ValueError if the source has too few requests besides those that are attacked.
    """
    row = attempt.row
    pairs = row["pairs"]
    loaded = load_completion_model(attempt.weights, attempt.is_chat)
    model = loaded.model
    kinds = read_pairs(attempt.source)
    attacked = {text for _, text, _ in attempt.prompts}
    needed = pairs + 2 * row["held_out"]
    prompts = []
    for found in (kinds["refusal"], kinds["benign"]):
        others = [pair for pair in found if pair.request not in attacked]
        if len(others) < needed:
            raise ValueError(
                f"{attempt.source}: expected {needed} declined and {needed} harmless requests that "
                f"are not attacked (got {len(others)}); write smaller pairs and held_out"
            )
        requests = [pair.request for pair in sample_pairs(others, needed, row["seed"])]
        prompts.append(loaded.prompt_tokens(requests))
    harmful, harmless = prompts
    # The last of the harmless prompts choose nothing: the divergence is measured on them.
    measured = harmless[-row["held_out"] :]
    refusal = refusal_direction(model, harmful, harmless[: -len(measured)], pairs)
    draws = generator("abliteration", row["seed"])
    random = torch.from_numpy(draws.standard_normal(len(refusal))).to(refusal)
    directions = {"plain": 0 * random, "random": random / random.norm(), "abliterated": refusal}
    before = read(model, measured)[1]
    for condition, unit in directions.items():
        with projected_out(model, unit):
            kl = divergence(before, read(model, measured)[1])
            # `complete` takes the same model from memory.
            for answer in attempt.complete(condition):
                yield {**answer, "kl": kl}


def refusal_direction(model: Any, harmful: TokenLists, harmless: TokenLists, pairs: int) -> Tensor:
    """Return the direction of refusal, with length 1.

    It is that layer's difference of means, over the first `pairs` prompts, without which the
    answers to the other harmful prompts begin most like those to harmless ones, and these most as
    before: the sum of both divergences is the least.
    """
    differences = read(model, harmful[:pairs])[0] - read(model, harmless[:pairs])[0]
    before = read(model, harmless[pairs:])[1]
    answers = before.logsumexp(dim=0, keepdim=True) - math.log(len(before))
    ranked = {}
    # The first are the embeddings.
    for difference in differences[1 : int(LAST_LAYER * len(differences))]:
        unit = difference / difference.norm()
        with projected_out(model, unit):
            cost = divergence(before, read(model, harmless[pairs:])[1])
            cost += divergence(answers, read(model, harmful[pairs:])[1])
        ranked[cost] = unit
    return ranked[min(ranked)]


@contextmanager
def projected_out(model: Any, unit: Tensor) -> Iterator[None]:
    """Take a direction of length 1 out of all that embeddings and layers write.

    Raises ValueError if the model has other matrices than WRITERS.
    """

    def project(module: Any, inputs: Any, output: Tensor) -> Tensor:
        direction = unit.to(output)
        return output - (output @ direction)[..., None] * direction

    writers = [one for name, one in model.named_modules() if name.endswith(WRITERS)]
    if not writers:
        raise ValueError(
            f"{type(model).__name__}: expected matrices of the names {WRITERS} (got none); "
            "leave this model out of the attack"
        )
    with ExitStack() as stack:
        for writer in (model.get_input_embeddings(), *writers):
            stack.enter_context(writer.register_forward_hook(project))
        yield


@torch.inference_mode()
def read(model: Any, prompts: TokenLists) -> tuple[Tensor, Tensor]:
    """Read prompts, one at a time.

    Returns the mean hidden states of their last token, (layers + 1, width), and the
    log-probabilities of the token after each, (prompts, vocabulary).
    """
    states = []
    scores = []
    for prompt in prompts:
        tokens = torch.tensor([prompt], device=model.device)
        output = model(tokens, output_hidden_states=True, logits_to_keep=1)
        states.append(torch.cat(output.hidden_states)[:, -1].float())
        scores.append(output.logits[0, -1].float().log_softmax(dim=-1))
    return torch.stack(states).mean(dim=0), torch.stack(scores)


def divergence(before: Tensor, after: Tensor) -> float:
    """Average the Kullback-Leibler divergence of log-probabilities (rows, vocabulary), in nats."""
    return float((before.exp() * (before - after)).sum(dim=1).mean())
