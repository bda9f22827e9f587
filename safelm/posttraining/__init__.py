"""Post-training (paper §7): safety instruction tuning and benign finetuning, with TRL and loss on
the answers only.
"""

from safelm.posttraining.stages import finetune, instruct

__all__ = ["finetune", "instruct"]
