"""Judges of completions: refusal phrases, a scorer, a language model, a rule of the demo world."""
