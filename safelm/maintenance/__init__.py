"""Maintain a build: verify, repair, garbage collection, diagnosis."""
