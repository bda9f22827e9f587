"""Evaluation: suites of prompts, the judge of what a model answers, and the measures the report
shows.
"""
