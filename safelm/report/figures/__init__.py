"""Figures of the report, a function each: filter, pool, draw."""
