"""Charts as SVG markup."""
