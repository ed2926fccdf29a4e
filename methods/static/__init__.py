"""Weights that are changed once, before any token: quantisation and static pruning.

A quantiser (`rtn`, `gptq`, `gptvq`) changes every linear layer of the decoder, a static pruning
method (`magnitude`, `wanda`, `sparsegpt`) those of its MLPs. Both are described without torch;
`recipe.changed_weights` applies them to a model, one decoder layer at a time. Pruning that learns
(`dsnot`, `losa`) makes its weights in a training, and methods of `coded.py` (`packed`, `dfloat11`)
say how the weights of a dense model are stored.
"""
