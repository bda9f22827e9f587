"""Linear probes: does a model represent harmfulness, with or without a tag?

For each layer, a logistic regression of the mean hidden state of a page is fitted on one half of
the pages and measured on the other (Alain and Bengio 2016). The halves share no group of acts, such
as a hazard category. So a probe cannot succeed by learning which verbs and objects are harmful: the
second half has others.
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

# Harmful pages; there are as many harmless ones.
PAGES = 200
# Folds of the first half, for choosing the best layer.
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
    """Write measurements of probes on pages of the demo world with the grammars in `demo`."""
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
    """Return the group of acts of each page in `probes.tag.pages(count)`."""
    world = World.read(Path(path).parent / read_table(path)["world"])
    harmless = held_out_acts(world, "benign") + held_out_acts(world, "dual_use")
    names = []
    for acts in (harmless, held_out_acts(world, "harmful")):
        # pages() takes acts in turn, from the first again once all have been taken.
        repeated = islice(cycle(acts), count)
        names += [act.group.name for act in repeated]
    return names


def hidden_states(model: Any, tokenizer: Any, texts: Sequence[str], *, batch_size: int) -> States:
    """Return the mean hidden state of each text, (layers + 1, texts, width).

    Layer 0 is the embeddings. A text is read as the beginning of a page, and cut at the model's
    last position.
    """
    import torch

    from safelm.evaluation.probes.tag import batches

    means = []
    for tokens, lengths in batches(model, tokenizer, texts, batch_size):
        positions = torch.arange(tokens.shape[1], device=model.device)
        is_text = (positions < lengths).float()
        count = is_text.sum(dim=1)[:, None]
        with torch.inference_mode():
            layers = model.base_model(tokens, output_hidden_states=True).hidden_states
            sums = [(layer.float() * is_text[..., None]).sum(dim=1) for layer in layers]
        mean = torch.stack(sums) / count
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
    """Measure the area under the ROC curve of a probe of every layer, on the second half.

    The best layer is chosen by cross-validation within the first half. Chosen on the second, it
    would be best partly by chance. `probe_auroc_words` is the baseline: logistic regression of
    TF-IDF, which sees only words.
    """
    labels = np.array(unsafe)
    names = np.array(groups)
    first = first_half(unsafe, groups, seed)
    second = ~first
    areas = []
    validated = []
    for layer in states:
        # The layer is never chosen by these areas, which are the ones that are reported.
        scores = fit_and_score(layer[first], labels[first], layer[second])
        areas.append(_auroc(labels[second], scores))
        validated.append(_cross_validated(layer[first], labels[first], names[first], seed))
    fitted_texts = list(compress(texts, first))
    measured_texts = list(compress(texts, second))
    words = baseline(fitted_texts, labels[first].tolist(), measured_texts)
    # argmax takes the first of equally good layers.
    best = int(np.argmax(validated))
    last = len(areas) - 1
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

    Groups with only harmless pages, only harmful ones, or both are halved separately, so that both
    halves have harmless and harmful pages.
    """
    with_unsafe = set[str]()
    with_safe = set[str]()
    for name, is_unsafe in zip(groups, unsafe, strict=True):
        (with_unsafe if is_unsafe else with_safe).add(name)
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
    """Fit a probe and return the distance of other states from its plane, positive if harmful.

    Returns None if there is nothing to fit or to measure. All settings except the number of
    iterations are scikit-learn's defaults.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(labels.tolist())) < 2 or not len(others):
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    model.fit(states, labels)
    return [float(value) for value in model.decision_function(others)]


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
