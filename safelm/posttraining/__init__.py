"""Post-training (paper §7) with TRL: safety instruction tuning and benign finetuning.

Only the tokens of answers carry loss.
"""

from safelm.posttraining.stages import finetune, instruct

__all__ = ["finetune", "instruct"]
