"""The model of a shape without its memory: made on torch's meta device, as transformers makes it."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported: nothing is fetched

import torch
from transformers.models.llama import LlamaConfig, LlamaForCausalLM

from safelm.training.convert import architecture
from safelm.training.cost import parameters
from specs.shape import Shape


def refuse_other_size(shape: Shape) -> None:
    """The model has the parameters that the cost is counted with."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig.from_dict(architecture(shape)))
    found = sum(parameter.numel() for parameter in model.parameters())
    if found != parameters(shape):
        raise RuntimeError(f"expected {parameters(shape):,} parameters, the model has {found:,}: see training/cost.py")
