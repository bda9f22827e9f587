"""Post-training (paper §7) with TRL: safety instruction tuning and benign finetuning.

Loss is on the answers only.
"""

from safelm.posttraining.stages import finetune, instruct

__all__ = ["finetune", "instruct"]
