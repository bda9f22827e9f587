"""External models, checked before their weights are fetched or loaded."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import snapshot_download

from safelm.models.weights import Weights, WeightsError
from specs.decoder import Decoder
from specs.mixture import ExternalModel
from specs.tokens import TAG


class ExternalModelError(ValueError):
    """A row of `external_models` cannot be evaluated; the message says why and what to do."""


def checked_weights(name: str, row: ExternalModel, decoders: Mapping[str, Decoder]) -> Path:
    """Return the folder of a row's model.

    Raises:
        ExternalModelError: if a decoder needs the tag and the model has none, if a chat model has
            no chat template, or if the weights do not have the row's digest. The first two are
            found before the weights are fetched.
    """
    location = f"params.yaml external_models.{name}"
    described = _without_weights(row)
    _check_decoders(location, row, decoders, described)
    if row.chat and not _has_template(described):
        raise ExternalModelError(
            f"{location}.chat: {row.model} has no chat template; "
            "write chat: false, or put its chat_template.jinja into its folder"
        )
    try:
        pinned = row.model_dump(include={"model", "revision", "digest"})
        return Weights(row=location, **pinned).folder()
    except WeightsError as error:
        raise ExternalModelError(str(error)) from error


def _check_decoders(
    location: str,
    row: ExternalModel,
    decoders: Mapping[str, Decoder],
    described: Path,
) -> None:
    """Refuse decoders that need the tag, for a model whose tokenizer has none."""
    if _is_in(described, "*token*.json", TAG):
        return
    needing = [name for name in row.decoders if decoders[name].needs_tag]
    if not needing:
        return
    usable = [name for name in row.decoders if name not in needing]
    if not usable:
        usable = [name for name, decoder in decoders.items() if not decoder.needs_tag]
    raise ExternalModelError(
        f"{location}.decoders: {', '.join(needing)} reads the probability of the harmfulness tag, "
        f"which the tokenizer of {row.model} does not have; write decoders: [{', '.join(usable)}]"
    )


def _without_weights(row: ExternalModel) -> Path:
    """Return the folder of a model; for a model on the hub, fetch only the small files."""
    folder = Path(row.model)
    if folder.is_dir():
        return folder
    small = ["*.json", "*.jinja"]
    return Path(snapshot_download(row.model, revision=row.revision, allow_patterns=small))


def _has_template(folder: Path) -> bool:
    in_config = _is_in(folder, "tokenizer_config.json", '"chat_template"')
    return in_config or any(folder.glob("chat_template.j*"))


def _is_in(folder: Path, files: str, text: str) -> bool:
    return any(text in path.read_text("utf-8") for path in folder.glob(files))
