"""Offline mode of the Hugging Face libraries; import this before transformers, which reads it once.

Stages that train or measure fetch nothing from the hub, and TRL reports no run to it
(trl/trainer/base_trainer.py:88). `HF_HUB_OFFLINE=0` in the environment allows both.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
