"""Families of networks: one a file, each with its builder and the sampler of its options."""

from training.zoo.families import (  # noqa: F401 (registered)
    dense,
    language_models,
    mlp,
    residual,
    separable,
    vgg,
    vit,
)
