"""Probes of internal signals of a model: linear probes of its layers, and p(tag)."""
