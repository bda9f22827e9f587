"""Training: Nanotron 0.4's own trainer, on a GPU or a CPU, fed with the exact rows of a mixture's
plan.

`pretrain` (launch.py) starts the trainer in a process of its own, for patches.py changes Nanotron
and stands in for flash-attn process-wide; what it leaves is converted to Hugging Face's format
without importing torch."""
