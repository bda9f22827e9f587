"""Figures of the report, a function each: filter, pool, draw. figures.yaml names the functions."""

from safelm.report.figures import ablation, answers, corpora, decoding, differences, makers, scorers

__all__ = ["ablation", "answers", "corpora", "decoding", "differences", "makers", "scorers"]
