"""An OpenAI-compatible server of one model and one decoder, by default for this machine alone.

Evaluation harnesses that speak OpenAI's protocol can so measure a decoder that no inference engine
has. POST /v1/completions continues texts as in pretraining; POST /v1/chat/completions answers a
dialogue in the model's chat format.
"""
