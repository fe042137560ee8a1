"""Budget rules: one a file, each with its name and what it can divide."""

from pruners.budgets.rules import (  # noqa: F401 (registered)
    bernoulli,
    depth_linear,
    distortion,
    erk,
    expected_loss,
    flap,
    global_threshold,
    lamp,
    manual,
    owl,
    price,
    search,
    uniform,
)
