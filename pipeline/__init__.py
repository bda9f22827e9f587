"""The stages: one file each, called by dvc.yaml. A stage reads its params, names the blocks and runs them."""
