"""Checks of models that start from existing weights, as far as these lie in a folder."""

from contextlib import suppress
from pathlib import Path

from specs.checks.files import stems
from specs.llama import StartError
from specs.messages import Findings
from specs.mixture import Model
from specs.params import Params
from specs.shape import SHAPES, Shape, TrainingRecipe, read_shape, shape_of_weights


def check_start(params: Params) -> Findings:
    """Check that weights to start from fit the shape, and that the tokenizer is theirs."""
    for name, model in params.models.items():
        try:
            _shape(params, model)
        except StartError as error:
            yield ("models", name, "shape"), str(error)
        if model.start and params.tokenizer.path is None:
            yield (
                ("tokenizer", "path"),
                f"must be the folder of the tokenizer of models.{name}.start (got null, to train "
                "one); write the folder of those weights",
            )


def shape_of(params: Params, model: Model) -> Shape | None:
    """Return the shape of a model; None if it is not valid, or not known before a download."""
    # Reported by check_start.
    with suppress(StartError):
        return _shape(params, model)
    return None


def recipe_of(model: Model) -> TrainingRecipe | None:
    """Return the training recipe of a model; None if its shape is no file."""
    return read_shape(model.shape).recipe if model.shape in stems(SHAPES) else None


def batch_of(params: Params, model: Model) -> int | None:
    """Return the rows in a step of a model; None if its rows do not say, which is reported."""
    recipe, budget = recipe_of(model), params.budgets.get(model.budget)
    with suppress(ValueError):
        return recipe.batch(budget) if recipe and budget else None
    return None


def _shape(params: Params, model: Model) -> Shape | None:
    if model.shape not in stems(SHAPES):
        return None
    file = read_shape(model.shape)
    if model.start and Path(model.start.model).is_dir():
        return shape_of_weights(file, Path(model.start.model), params.tokenizer.vocab_size)
    if isinstance(file, Shape):
        return file
    if model.start:
        return None
    raise StartError(
        f"must have an architecture (got {model.shape}, a recipe to train existing weights "
        "further); name another shape, or the weights: start: {model: …, revision: …, digest: …}"
    )
