"""Utility of a model, measured by lm-evaluation-harness."""
