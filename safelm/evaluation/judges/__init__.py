"""Judges of completions: refusal phrases, a scorer, a language model, and the rule of the demo."""
