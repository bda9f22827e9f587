"""The build system: fingerprints, a content-addressed store, manifests, executors and a scheduler
over DVC.
"""
