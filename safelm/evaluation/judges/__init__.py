"""Judges of completions: refusal phrases, a scorer, a language model, the demo world's rule."""
