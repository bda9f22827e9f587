"""Text tools: a grammar, the hazard lexicon, clean-up of untrusted text, the harmfulness tag."""
