"""External models: rows of `external_models`, evaluated like ours and never trained here."""

from pydantic import Field

from specs.spec import Name, Spec


class ExternalModel(Spec):
    """A causal language model in Hugging Face's format, with weights in safetensors. No code of its
    own is run.
    """

    model: str = Field(min_length=1, description="a folder, or a name on the Hugging Face hub")
    revision: str | None = Field(
        pattern=r"^[0-9a-f]{40}$", description="its commit on the hub; null for a folder"
    )
    digest: str | None = Field(
        description="which weights these are, as `python -m safelm.llm.weights MODEL` prints it; null until then"
    )
    chat: bool = Field(
        description="whether it answers requests in its chat template; false: it continues texts"
    )
    decoders: list[Name] = Field(
        min_length=1,
        description="rows of evaluate.decoders; those that read the tag need a model that has it",
    )
