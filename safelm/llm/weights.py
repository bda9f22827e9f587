"""Weights of a row of `engines`, checked against its digest.

python -m safelm.llm.weights org/name        print the digest, for params.yaml
"""

import argparse
from pathlib import Path

from safelm.llm.engine import EngineError, EngineRow
from safelm.models.weights import Weights, WeightsError, digest_of, folder_of


def checked_folder(row: EngineRow) -> Path:
    """Return the folder of a row's model.

    Raises EngineError if its weights are not there, or do not have the row's digest.
    """
    location = f"params.yaml engines.{row['name']}"
    try:
        return Weights(row["digest"], location, row["model"], row["revision"]).folder()
    except WeightsError as error:
        raise EngineError(str(error)) from error


def main() -> None:
    """Print the digest of a model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="a folder, or a name on the Hugging Face hub")
    parser.add_argument("--revision", help="a commit of the hub")
    options = parser.parse_args()
    print(digest_of(folder_of(options.model, options.revision)))


if __name__ == "__main__":
    main()
