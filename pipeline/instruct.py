"""instruct: safety instruction tuning of a pretrained model with TRL.

Models that know the tag also read tagged pairs.

python -m pipeline.instruct safe
"""

import pipeline.offline  # noqa: F401  (before transformers)
from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.posttraining import instruct
from specs.params import Params


def main() -> None:
    """Tune a model into build/instruct/<model>."""
    model = StageParser("instruct", __doc__).parse_row("model", "models")
    params = Params.read("models", "instruct", "tags")
    row = params.instruct[params.models[model].instruct]
    tags = params.tags[row.tag]
    settings = row.model_dump(exclude={"tag", "source"})
    artifact(
        f"instruct/{model}",
        instruct,
        name=f"instruct/{model}",
        base=build("pretrain", model),
        source=build("clean", row.source),
        rate=tags.rate,
        mode=tags.mode,
        **settings,
    )


if __name__ == "__main__":
    main()
