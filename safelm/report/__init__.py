"""The report: what was measured, with intervals, beside the paper's own numbers, as one HTML file
and summary.json.
"""
