"""Checks across the rows of params.yaml."""
