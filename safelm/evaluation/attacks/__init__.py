"""Attacks on a model whose weights the attacker has: suffixes of a request that make it answer (Zou
et al. 2023).
"""
