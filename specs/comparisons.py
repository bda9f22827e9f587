"""Comparisons: the models that the report compares, by their roles in the paper."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from specs.spec import Name, Spec

AblationStep = Literal["raw", "score_0", "rephrase", "refusal", "moral", "tags"]
ABLATION_STEPS: tuple[AblationStep, ...] = get_args(AblationStep)

ModelName = Annotated[
    Name, Field(description="a row of `models`; other seeds of its mixture are pooled with it")
]
Label = Annotated[str, Field(min_length=1, max_length=64)]
Amounts = Annotated[
    dict[Annotated[float, Field(ge=0)], ModelName],
    Field(min_length=2, description="amount: model, for models that differ only in this amount"),
]
Starts = Annotated[
    dict[Annotated[float, Field(ge=0, le=1)], ModelName],
    Field(min_length=2, description="share of training before interventions begin: model"),
]


class Comparisons(Spec):
    """The models in the roles standard, filtered and safe, and series that vary one amount.

    A model stands for all models of its mixture and shape, which differ only in their seeds.
    """

    standard: ModelName | None = Field(description="reads the raw web; null if there is none")
    filtered: ModelName | None = Field(description="reads only score 0; null if there is none")
    safe: ModelName | None = Field(description="has every intervention; null if there is none")
    ablation: dict[AblationStep, ModelName] = Field(
        description="step of the paper's Figure 4: model, for the steps that are built"
    )
    amounts: dict[Label, Amounts] = Field(
        description="series in which one amount varies, such as the rate of tags; {} for none"
    )
    starts: dict[Label, Starts] = Field(
        description="series in which the start of interventions varies (paper §12); {} for none"
    )


class NewComparisons(Spec):
    """Comparisons that an experiment adds; other tables stay as they are."""

    ablation: dict[AblationStep, ModelName] = Field(default={})
    amounts: dict[Label, Amounts] = Field(default={})
    starts: dict[Label, Starts] = Field(default={})
