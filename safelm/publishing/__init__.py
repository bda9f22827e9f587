"""A finished build as folders of the Hugging Face hub: data sets, models and the report."""
