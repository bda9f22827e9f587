"""Figures of the report, one function for each."""
