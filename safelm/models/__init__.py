"""Language models in Hugging Face's format; here, the metadata that need no model to be loaded."""

import json
from pathlib import Path

TRAIN = "train.json"
# Finetuning keeps the model in checkpoints/<pairs> as it was after so many pairs.
CHECKPOINTS = "checkpoints"


def knows_tag(folder: Path) -> bool:
    """Return whether the model was trained on tagged text, by its train.json.

    A model without train.json, such as a user's own, does not know the tag.
    """
    path = folder / TRAIN
    return path.is_file() and bool(json.loads(path.read_bytes())["knows_tag"])
