"""SafeBeam (paper §5) and the decoders it is measured against: one batched search over a tree.

The decoders are the rows of evaluate.decoders: greedy, top-k sampling, beam search, SafeBeam and
`branch`, this project's own, nearly as helpful as a beam search at a quarter of its attack success.
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
