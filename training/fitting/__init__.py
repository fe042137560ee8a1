"""Fitting a model to data, and measuring it.

`fit` is the loop, `settings` what it takes and gives, `run` the state of a run and its checkpoints,
`optim` optimisers and learning rates. `evaluate` gives figures on a split, `chance` how sure they
are, `latency` the time of a forward pass.
"""
