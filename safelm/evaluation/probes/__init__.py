"""Probes of a model's internal signals: linear probes of its layers, and p(tag)."""
