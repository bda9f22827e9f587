"""Pretraining with Nanotron 0.4's trainer on the rows of a mixture's plan, on GPU or CPU.

`pretrain` (launch.py) runs the trainer in its own process, because patches.py changes Nanotron and
replaces flash-attn process-wide. The result is converted to Hugging Face's format without torch.
"""
