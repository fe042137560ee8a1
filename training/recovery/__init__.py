"""Recovery by training: what a pruned network lost is learned again.

`finetune` is the whole of it, with its settings. `masked` keeps pruned weights at zero meanwhile,
`distilled` is the loss that asks for the dense network's outputs. `descent` takes a few steps on a
calibration, where there is no data set.
"""
