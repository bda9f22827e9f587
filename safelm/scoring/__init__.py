"""Safety scores from 0 (harmless) to 5 (harmful): judges, classifiers, cascades and ensembles."""
