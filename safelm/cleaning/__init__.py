"""Filters of documents: DataTrove's blocks, language, near-duplicates, overlap with suites."""
