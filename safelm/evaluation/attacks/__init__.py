"""Attacks on the safety of models, by rows of `attacks` and `relearn`.

attack.py is the stage `attack`: it plans the parts of every row and measures them. attempts.py has
the kinds of attack: suffixes (searched for in suffixes.py, by gcg.py), prefill, best of N and
abliteration.py. relearning.py tunes models on harmful pairs and measures them along the way.

Another kind is a row type in specs/attacks.py, a function that yields rows of ATTEMPTS in
attempts.py, and a figure of its name in safelm/report/figures.yaml.
"""
