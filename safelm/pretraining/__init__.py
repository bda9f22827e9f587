"""Pretraining with Nanotron 0.4's own trainer on the rows of a mixture's plan, on GPU or CPU.

`pretrain` (launch.py) runs the trainer in a process of its own, because patches.py changes Nanotron
and replaces flash-attn process-wide. The result is converted to Hugging Face's format without
importing torch.
"""
