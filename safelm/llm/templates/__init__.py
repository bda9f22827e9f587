"""The engine that writes from templates, for the demo."""
