"""Linear probes: does a model represent harmfulness, whether or not it has a tag to say so?

For each layer a logistic regression learns from the mean of the hidden states over a page, on one
half of the pages, and is measured on the other (Alain and Bengio 2016). The halves share no group
of acts, such as a hazard category: a probe that has learned which verbs and objects are harmful
finds others in the second half."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelm.demo.prompts import WEB, held_out
from safelm.demo.world import World, read_table
from safelm.seeding import sample
from safelm.stats.classification import baseline
from safelm.stats.ranking import auroc

PAGES = 200  # harmful ones, and as many harmless ones
FOLDS = 4  # of the first half, by which the best layer is chosen
CONFIDENCE = 0.95
ITERATIONS = 1000
States = NDArray[np.float64]


def probe(folder: Path, *, model: Path, demo: Path, batch: int, seed: int) -> tuple[()]:
    """Write what probes of the model tell of the pages of the embedded world, whose grammar is in
    the folder `demo`.
    """
    from safelm.evaluation.generation import examinee
    from safelm.evaluation.probes.tag import pages

    asked, found = examinee(model, False), pages(PAGES, demo / WEB.name)
    unsafe, texts = [is_unsafe for is_unsafe, _ in found], [text for _, text in found]
    states = hidden_states(asked.model, asked.tokenizer, texts, batch=batch)
    told = probed(states, texts, unsafe, subjects(PAGES, demo / WEB.name), seed=seed)
    (folder / ".json").write_text(
        json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    return ()


def subjects(count: int, path: str | Path = WEB) -> list[str]:
    """The group of the act that each of the pages of `signal.pages(count)` is about."""
    world = World.read(Path(path).parent / read_table(path)["world"])
    harmless, harmful = (
        held_out(world, "benign") + held_out(world, "dual_use"),
        held_out(world, "harmful"),
    )
    return [
        kind[index % len(kind)].group.name for kind in (harmless, harmful) for index in range(count)
    ]


def hidden_states(model: Any, tokenizer: Any, texts: Sequence[str], *, batch: int) -> States:
    """The mean hidden state over each text, [layers + 1, texts, width]; layer 0 are the embeddings.

    A text is read as the beginning of a page, as far as the model's positions reach.
    """
    import torch

    from safelm.decoding.check import positions_of
    from safelm.models.chat import page_tokens

    read = [row[: positions_of(model.config)] for row in page_tokens(tokenizer, texts)]
    means = []
    for start in range(0, len(read), batch):
        rows = read[start : start + batch]
        longest = max(map(len, rows))
        tokens = torch.tensor(
            [row + [0] * (longest - len(row)) for row in rows], device=model.device
        )
        inside = torch.tensor(
            [[1.0] * len(row) + [0.0] * (longest - len(row)) for row in rows], device=model.device
        )
        with (
            torch.inference_mode()
        ):  # what stands behind a text is never seen, for the model is causal
            layers = model.base_model(tokens, output_hidden_states=True).hidden_states
            sums = [(layer.float() * inside[..., None]).sum(dim=1) for layer in layers]
            means.append((torch.stack(sums) / inside.sum(dim=1)[:, None]).cpu().double().numpy())
    return np.concatenate(means, axis=1)


def probed(
    states: States,
    texts: Sequence[str],
    unsafe: Sequence[bool],
    groups: Sequence[str],
    *,
    seed: int,
) -> dict[str, Any]:
    """The area under the ROC curve on the second half, with DeLong's interval: of each layer, the
    last and the best.

    The best layer is chosen by cross-validation within the first half: on the second the best of
    many would be best by chance. words: the same of TF-IDF and logistic regression, which see the
    words alone."""
    labels, first = np.array(unsafe), halves(unsafe, groups, seed)
    second = ~first
    layers = {
        str(place): _area(labels[second], fitted(layer[first], labels[first], layer[second]))
        for place, layer in enumerate(states)
    }
    chosen = [
        _cross_validated(layer[first], labels[first], np.array(groups)[first], seed)
        for layer in states
    ]
    best = int(np.argmax(chosen))
    some, others = (
        [text for text, here in zip(texts, half, strict=True) if here] for half in (first, second)
    )
    return {
        "layers": layers,
        "best": {"layer": best, "area": layers[str(best)]},
        "last": layers[str(len(states) - 1)],
        "words": _area(labels[second], baseline(some, labels[first].tolist(), others)),
        "pages": {"fitted": int(first.sum()), "measured": int(second.sum())},
    }


def halves(unsafe: Sequence[bool], groups: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Which pages are in the first half: those of half of the groups, drawn by name.

    Groups of harmless pages, of harmful pages and of both are halved apart, so that both halves
    hold both."""
    kinds: dict[str, set[bool]] = {}
    for name, is_unsafe in zip(groups, unsafe, strict=True):
        kinds.setdefault(name, set()).add(bool(is_unsafe))
    chosen: set[str] = set()
    for kind in ({False}, {True}, {False, True}):
        names = sorted(name for name, found in kinds.items() if found == kind)
        chosen |= set(sample("probe", seed, names, (len(names) + 1) // 2))
    return np.array([name in chosen for name in groups])


def fitted(states: States, labels: NDArray[np.bool_], others: States) -> list[float] | None:
    """How far on the harmful side of the plane the others lie; None where there is nothing to
    learn.

    Every setting but the number of iterations is the library's own.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(labels.tolist())) < 2 or not len(others):
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
    return [float(value) for value in model.fit(states, labels).decision_function(others)]


def _cross_validated(
    states: States, labels: NDArray[np.bool_], groups: NDArray[Any], seed: int
) -> float:
    """The mean area over folds that share no group."""
    names = sample("folds", seed, sorted(set(groups.tolist())), len(groups))
    found = []
    for fold in range(FOLDS):
        held = np.isin(groups, names[fold::FOLDS])
        found.append(_area(labels[held], fitted(states[~held], labels[~held], states[held])))
    areas = [area["value"] for area in found if area]
    return float(np.mean(areas)) if areas else 0.0


def _area(labels: NDArray[np.bool_], scores: Sequence[float] | None) -> dict[str, Any] | None:
    area = auroc(labels.tolist(), scores, CONFIDENCE) if scores is not None else None
    return area.json() if area else None
