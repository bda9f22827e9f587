"""The template engine, which writes the demo's synthetic texts without a language model."""
