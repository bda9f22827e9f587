"""Models of others: what is refused before their weights are fetched or loaded, and their folder."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import snapshot_download

from safelm.llm.weights import digest_of, folder_of
from specs.decoder import Decoder
from specs.external_model import ExternalModel
from specs.tokens import TAG

TOKENIZER = (
    "tokenizer.json",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
TEMPLATES = ("chat_template.jinja", "chat_template.json")


class OtherError(ValueError):
    """A row of `external_models` cannot be evaluated; the message says why and what to write."""


def checked(name: str, row: ExternalModel, decoders: Mapping[str, Decoder]) -> Path:
    """The folder of a row's model. Raises OtherError, before any weights are there, for what it
    could not do.
    """
    small = _described(row)
    tag = any(TAG in path.read_text(encoding="utf-8") for path in _there(small, TOKENIZER))
    needing = [one for one in row.decoders if decoders[one].needs_tag and not tag]
    if needing:
        rest = [one for one in row.decoders if one not in needing]
        rest = rest or [one for one, decoder in decoders.items() if not decoder.needs_tag]
        raise OtherError(
            f"params.yaml external_models.{name}.decoders: {', '.join(needing)} reads the probability of the harmfulness tag, "
            f"which the tokenizer of {row.model} does not have; write decoders: [{', '.join(rest)}]"
        )
    if row.chat and not _has_template(small):
        raise OtherError(
            f"params.yaml external_models.{name}.chat: {row.model} has no chat template; write chat: false, or put its "
            "chat_template.jinja into its folder"
        )
    folder = folder_of(row.model, row.revision)
    if (found := digest_of(folder)) != row.digest:
        state = (
            "are not pinned yet" if row.digest is None else f"are not those of digest {row.digest}"
        )
        raise OtherError(
            f"params.yaml external_models.{name}.digest: the weights of {row.model} {state}; write digest: {found}"
        )
    return folder


def _described(row: ExternalModel) -> Path:
    """The folder of a model without its weights: of one of the hub, what says how it is tokenized."""
    folder = Path(row.model)
    if folder.is_dir():
        return folder
    return Path(
        snapshot_download(row.model, revision=row.revision, allow_patterns=["*.json", "*.jinja"])
    )


def _there(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]


def _has_template(folder: Path) -> bool:
    configs = _there(folder, ("tokenizer_config.json",))
    return bool(_there(folder, TEMPLATES)) or any(
        '"chat_template"' in path.read_text("utf-8") for path in configs
    )
