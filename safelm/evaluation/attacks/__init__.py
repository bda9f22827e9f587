"""Attacks by someone who has a model's weights: suffixes of a request, and relearning.

relearning.py tunes models on harmful pairs and measures them along the way. suffixes.py searches
for suffixes that make a model answer (gcg.py), and measures prompts with and without them.

Another attack on the weights, such as abliteration (projecting the direction of refusal out of
them), is another module here: a function `<attack>_models` that builds an artifact from parts, as
relearning.py does, each with the completions of one attacked model. Its settings are a table in
specs/attacks.py, its stage a file in pipeline/.
"""
