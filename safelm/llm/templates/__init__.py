"""Template engine: writes the demo's synthetic texts without a language model."""
