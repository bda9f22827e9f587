"""An OpenAI-compatible server of one model and one decoder, on this machine alone.

An evaluation harness that speaks to such servers can so measure a decoder that no inference engine
has."""
