"""Synthetic corpora: unsafe documents become safe text, refusals and lessons (paper §2 and §3)."""
