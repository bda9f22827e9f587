"""Text tools: grammar, lexicon, hazards, clean-up of untrusted text, the harmfulness tag."""
