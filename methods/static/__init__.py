"""Weights that are changed once, before any token: quantisation and static pruning.

A quantiser (`rtn`, `gptq`, `gptvq`) changes every linear layer of the decoder, a static pruning
method (`magnitude`, `wanda`, `sparsegpt`) those of its MLPs. Both are described without torch;
`recipe.changed_weights` applies them to a model, one decoder layer at a time.
"""
