"""instruct: safety instruction tuning of a pretrained model with TRL; models that know the tag also
read tagged pairs.

python -m pipeline.instruct safe
"""

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.posttraining import instruct
from specs.params import Params


def main() -> None:
    """Tune the model named on the command line."""
    parser = StageParser("instruct", __doc__)
    parser.add_row("model", "models")
    name = f"instruct/{(model := parser.parse_args().model)}"
    params = Params.read("instruct", "tags")
    dials, tags = params.instruct.model_dump(exclude={"tag"}), params.tags[params.instruct.tag]
    artifact(
        name,
        instruct,
        name=name,
        base=build("pretrain", model),
        rate=tags.rate,
        mode=tags.mode,
        **dials | {"source": build("ingest", params.instruct.source)},
    )


if __name__ == "__main__":
    main()
