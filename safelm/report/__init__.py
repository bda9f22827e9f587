"""The report: the paper's figures from this build's measurements, on one self-contained page."""
