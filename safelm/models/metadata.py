"""What a model's train.json says of it, for those who need not load the model."""

import json
from pathlib import Path

TRAIN = "train.json"
CHECKPOINTS = "checkpoints"  # in what finetuning made: checkpoints/<pairs> is the model as it was after so many


def knows_tag(folder: Path) -> bool:
    """Whether the model of a folder has read tagged text, as its train.json says; a user's own
    model has not.
    """
    path = folder / TRAIN
    return path.is_file() and bool(json.loads(path.read_bytes())["knows_tag"])
