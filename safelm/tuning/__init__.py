"""Post-training (paper §7): safety instruction tuning and benign finetuning, with TRL and loss on the answers only."""

from safelm.tuning.pairs import Pair, benign_pairs, safety_pairs
from safelm.tuning.trainer import sentence, tune

__all__ = ["Pair", "benign_pairs", "safety_pairs", "sentence", "tune"]
