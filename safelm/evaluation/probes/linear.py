"""Linear probes: does a model represent harmfulness, whether or not it has a tag to say so?

A logistic regression of each layer is fitted on the mean hidden state of a page, on one half of the
pages, and measured on the other (Alain and Bengio 2016). The halves share no group of acts, such as
a hazard category: a probe that has learned which verbs and objects are harmful finds others in the
second half.
"""

from collections.abc import Sequence
from itertools import compress, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelm.demo.prompts import WEB, held_out_acts
from safelm.demo.world import World, read_table
from safelm.evaluation.measurements import Measurement, area, write_measurements
from safelm.seeding import sample
from safelm.stats.classification import baseline
from safelm.stats.ranking import Auroc, auroc
from safelm.stats.rates import DIGITS

# Harmful pages, and as many harmless ones.
PAGES = 200
# Folds of the first half, by which the best layer is chosen.
FOLDS = 4
CONFIDENCE = 0.95
MAX_ITERATIONS = 1000
Labels = NDArray[np.bool_]
States = NDArray[np.float64]


def measure_linear_probes(
    folder: Path,
    *,
    weights: Path,
    demo: Path,
    batch_size: int,
    seed: int,
) -> tuple[()]:
    """Write measurements of probes on pages of the demo world, whose grammars are in `demo`."""
    from safelm.evaluation.generation import load_completion_model
    from safelm.evaluation.probes.tag import pages

    web = demo / WEB.name
    loaded = load_completion_model(weights, False)
    unsafe, texts = zip(*pages(PAGES, web), strict=True)
    states = hidden_states(loaded.model, loaded.tokenizer, texts, batch_size=batch_size)
    rows = probe_layers(states, texts, unsafe, groups_of_pages(PAGES, web), seed=seed)
    write_measurements(rows, folder / ".parquet")
    return ()


def groups_of_pages(count: int, path: str | Path = WEB) -> list[str]:
    """Return the group of the act that each page of `probes.tag.pages(count)` is about."""
    world = World.read(Path(path).parent / read_table(path)["world"])
    harmless = held_out_acts(world, "benign") + held_out_acts(world, "dual_use")
    names = []
    for acts in (harmless, held_out_acts(world, "harmful")):
        repeated = islice(cycle(acts), count)
        names += [act.group.name for act in repeated]
    return names


def hidden_states(model: Any, tokenizer: Any, texts: Sequence[str], *, batch_size: int) -> States:
    """Return the mean hidden state over each text, [layers + 1, texts, width].

    Layer 0 are the embeddings. A text is read as the beginning of a page, as far as the model's
    positions reach.
    """
    import torch

    from safelm.decoding.check import positions_of
    from safelm.evaluation.probes.tag import pad
    from safelm.models.chat import page_tokens

    read = [row[: positions_of(model.config)] for row in page_tokens(tokenizer, texts)]
    means = []
    for start in range(0, len(read), batch_size):
        rows = read[start : start + batch_size]
        tokens, lengths = pad(rows, model.device)
        positions = torch.arange(tokens.shape[1], device=model.device)
        inside = (positions < lengths).float()
        with torch.inference_mode():
            layers = model.base_model(tokens, output_hidden_states=True).hidden_states
            sums = [(layer.float() * inside[..., None]).sum(dim=1) for layer in layers]
            mean = torch.stack(sums) / inside.sum(dim=1)[:, None]
            means.append(mean.cpu().double().numpy())
    return np.concatenate(means, axis=1)


def probe_layers(
    states: States,
    texts: Sequence[str],
    unsafe: Sequence[bool],
    groups: Sequence[str],
    *,
    seed: int,
) -> list[Measurement]:
    """Measure a probe of every layer on the second half: its area under the ROC curve.

    The best layer is chosen by cross-validation within the first half: on the second, the best of
    many layers would be best by chance. `probe_auroc_words` is TF-IDF with logistic regression,
    which sees the words alone.
    """
    labels, names = np.array(unsafe), np.array(groups)
    first = first_half(unsafe, groups, seed)
    second = ~first
    areas = []
    validated = []
    for layer in states:
        scores = fit_and_score(layer[first], labels[first], layer[second])
        areas.append(_auroc(labels[second], scores))
        validated.append(_cross_validated(layer[first], labels[first], names[first], seed))
    fitted_texts = list(compress(texts, first))
    measured_texts = list(compress(texts, second))
    words = baseline(fitted_texts, labels[first].tolist(), measured_texts)
    # The first of equally good layers.
    best, last = int(np.argmax(validated)), len(areas) - 1
    rows = [area("probe_auroc", found, layer=layer) for layer, found in enumerate(areas)]
    return [
        *rows,
        area("probe_auroc_best", areas[best], layer=best),
        area("probe_auroc_last", areas[last], layer=last),
        area("probe_auroc_words", _auroc(labels[second], words)),
        Measurement("probe_pages_fitted", count=int(first.sum())),
        Measurement("probe_pages_measured", count=int(second.sum())),
    ]


def first_half(unsafe: Sequence[bool], groups: Sequence[str], seed: int) -> Labels:
    """Mark the pages of the first half: those of half of the groups, drawn by name.

    Groups of harmless pages, of harmful pages and of both are halved apart, so that both halves
    have both kinds.
    """
    with_unsafe = {name for name, is_unsafe in zip(groups, unsafe, strict=True) if is_unsafe}
    with_safe = {name for name, is_unsafe in zip(groups, unsafe, strict=True) if not is_unsafe}
    kinds = (
        with_safe - with_unsafe,
        with_unsafe - with_safe,
        with_unsafe & with_safe,
    )
    chosen: list[str] = []
    for kind in kinds:
        half = (len(kind) + 1) // 2
        chosen += sample("probe", seed, sorted(kind), half)
    return np.isin(groups, chosen)


def fit_and_score(states: States, labels: Labels, others: States) -> list[float] | None:
    """Fit a probe and return each other state's distance from its plane, positive if harmful.

    None where there is nothing to fit or to measure. All settings but the number of iterations are
    scikit-learn's own.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(labels.tolist())) < 2 or not len(others):
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    return [float(value) for value in model.fit(states, labels).decision_function(others)]


def _cross_validated(states: States, labels: Labels, groups: NDArray[Any], seed: int) -> float:
    """Return the mean area over folds that share no group."""
    names = sample("folds", seed, sorted(set(groups.tolist())), len(groups))
    areas = []
    for fold in range(FOLDS):
        held_out = np.isin(groups, names[fold::FOLDS])
        scores = fit_and_score(states[~held_out], labels[~held_out], states[held_out])
        if found := _auroc(labels[held_out], scores):
            areas.append(round(found.value, DIGITS))
    return float(np.mean(areas)) if areas else 0.0


def _auroc(labels: Labels, scores: Sequence[float] | None) -> Auroc | None:
    return None if scores is None else auroc(labels.tolist(), scores, CONFIDENCE)
