"""Corpora made from scored documents: tagging, report cards, token files and mixtures."""
