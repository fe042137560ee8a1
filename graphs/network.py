"""The central value: a network as axes and tensors."""
