"""SafeBeam (paper §5) and the decoders that it is compared with, as one batched search.

The rows of evaluate.decoders in params.yaml choose among greedy, top-k sampling, beam search,
SafeBeam and `branch`. The last is this project's own: nearly as helpful as beam search, with about
a quarter of its attack success.
"""

from safelm.decoding.beams import Decoded
from safelm.decoding.custom_generate import CustomGenerate
from safelm.decoding.generate import generate
from safelm.decoding.rules import word_starts
from specs.decoder import BeamSearch, Branch, Decoder, Greedy, SafeBeam, TopK

__all__ = [
    "BeamSearch",
    "Branch",
    "CustomGenerate",
    "Decoded",
    "Decoder",
    "Greedy",
    "SafeBeam",
    "TopK",
    "generate",
    "word_starts",
]
