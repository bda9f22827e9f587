"""Utility, measured by lm-evaluation-harness."""
