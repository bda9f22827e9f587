"""Engines: the writers and judges of the rows of `engines`.

Addresses, keys and devices must not change a byte, so they are no part of a row. They come from the
environment: SAFELM_<ROW>_URL, SAFELM_<ROW>_KEY, SAFELM_DEVICES.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from specs.spec import Rows, Spec, Text

# Not in a dump of the row, and so in no key: no limit changes a byte.
Seconds = Annotated[float, Field(gt=0, exclude=True)]


@dataclass(frozen=True)
class Limits:
    """The seconds that a stage waits for a server; they are not compared, so they enter no key."""

    timeout: float = field(compare=False)
    patience: float = field(compare=False)


class TemplateEngine(Spec):
    """Templates: offline, without weights, the same on any machine. It writes; it cannot judge."""

    kind: Literal["template"]


class LanguageModel(Spec):
    """The keys that all language models share: the weights, and how answers are drawn."""

    model: Text = Field(
        description="its name, as the server or the Hugging Face hub has it, or a folder",
    )
    digest: str | None = Field(
        min_length=6,
        description="which weights these are; answers of other weights are not reused; null until "
        "`safelm check` says what to write",
    )
    characters: PositiveInt = Field(description="a longer document is sent in pieces")
    temperature: float = Field(ge=0, le=2)
    top_p: float = Field(gt=0, le=1)
    tokens: PositiveInt = Field(description="new tokens of an answer, at most")
    timeout: Seconds = Field(description="seconds that one request may take")
    patience: Seconds = Field(
        description="seconds for which a request that fails is repeated; if the server answers "
        "no other one meanwhile, the stage gives up"
    )


class EndpointEngine(LanguageModel):
    """Any OpenAI-compatible server.

    Its digest cannot be checked: write the name by which the provider pins the model.
    """

    kind: Literal["endpoint"]


class VllmEngine(LanguageModel):
    """A vLLM server that the build starts on this machine.

    `python -m safelm.llm.weights MODEL` prints the digest.
    """

    kind: Literal["vllm"]
    revision: str | None = Field(description="a commit of the hub; null for a folder")
    context: PositiveInt = Field(description="tokens of a request and its answer, at most")
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    eager: bool = Field(description="start sooner and run slower: without compiled graphs")


Engine = Annotated[TemplateEngine | EndpointEngine | VllmEngine, Field(discriminator="kind")]
Engines = Rows[Engine]


def language_models(engines: Mapping[str, Engine]) -> list[str]:
    """List the rows that are language models: those that can judge."""
    return [name for name, engine in engines.items() if engine.kind != "template"]


def row(engines: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Give the row `name` as blocks take it: plain values, with its name and its limits."""
    engine = engines[name]
    values = {"name": name, **engine.model_dump()}
    if isinstance(engine, LanguageModel):
        values["limits"] = Limits(engine.timeout, engine.patience)
    return values
