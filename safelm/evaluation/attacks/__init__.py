"""Attacks by someone who has a model's weights: suffixes of a request, and relearning.

relearning.py tunes models on harmful pairs, and measures them on the way. suffixes.py searches for
suffixes that make a model answer (gcg.py), and measures prompts with and without them.

A further attack on the weights, such as abliteration (projecting the direction of refusal out of
them), is one more module here: a `<attack>_models` function that builds its artifact from parts,
each an attacked model's completions, as relearning.py does. Its settings are a table in
specs/attacks.py, its stage a file in pipeline/.
"""
