"""Checks between rows of params.yaml."""
