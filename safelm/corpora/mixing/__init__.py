"""Mixtures: from token files to an exact plan of the rows and tokens that a model reads."""


class MixtureError(ValueError):
    """A mixture that its corpora cannot provide; the message names the part and the remedy."""
