"""Mixing: from token files to an exact plan of what a model reads, in rows and tokens of each phase
and part.
"""
