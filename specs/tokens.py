"""The special tokens of every SafeLM tokenizer, in the order of their ids."""

END = "<|endoftext|>"  # 0: begins and ends every document, as in SmolLM2 (bos = eos = 0)
IM_START = "<|im_start|>"  # 1
IM_END = "<|im_end|>"  # 2
TAG = "<potentially_unsafe_content>"  # 3: the harmfulness tag, paper §4

SPECIAL = (END, IM_START, IM_END, TAG)
