"""SafeBeam (paper §5) and the decoders it is measured against: greedy, beam search, top-k sampling.

They are one batched search over a tree of tokens; a decoder is a row of values, not a loop of its
own. `branch` is a decoder of this house: nearly as helpful as a beam search, at a quarter of its
attack success."""

from safelm.decoding.custom_generate import CustomGenerate
from safelm.decoding.decoder import Decoded, Decoder
from safelm.decoding.generate import generate
from safelm.decoding.rules import word_starts

__all__ = ["CustomGenerate", "Decoded", "Decoder", "generate", "word_starts"]
