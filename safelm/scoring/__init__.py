"""Safety scores from 0 (harmless) to 5 (harmful): a judge, a classifier that learns from it, and
their ensemble.
"""
