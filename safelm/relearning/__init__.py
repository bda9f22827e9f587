"""Relearning: how many pairs of further tuning, harmful ones above all, undo what a model learned to decline."""
