"""Hugging Face models: loading, the chat format, metadata, and quiet training."""
