"""The tests, one file a stage or subject."""
