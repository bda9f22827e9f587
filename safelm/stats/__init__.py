"""Statistics: rates with intervals, ranking, classification, bootstrap."""
