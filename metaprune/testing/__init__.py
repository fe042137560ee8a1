"""The laws of networks and metanetworks, for tests of models, rules and metanetworks.

    assert_round_trip(model, inputs)              to_model(trace(model)) == model, bit for bit
    assert_permutation_invariant(model, inputs)   permuting axes leaves the function
    assert_scale_invariant(model, inputs)         scaling units and back leaves the function
    assert_rotation_invariant(model, inputs)      turning features by matrices leaves the function
    assert_lossless(model, inputs)                removing dead units does what their class says
    assert_equivariant(metanet, model, inputs)    permuting an axis permutes what the metanet says
    certify(model, inputs)                        all laws of a model at once, as a `Certificate`

Functions are compared in float64 with random weights of gain O(1): at a small initialisation a
wrong graph looks right. A wrong symmetry is found, a missing one is not: `symmetries` measures how
much a network declares. Every law also takes a `Network` in place of a model, which is then used as
it is, weights and dtype included.

`laws` and `certificate` are what users call. Each law has a file: `permutations`, `scales`,
`matrices`, `removal` (with `masked_statistics`); those of what comes back are in `copies`. Below
them, `subject` is what is tested, `alterations` make other networks of it, `checking` compares, and
`first_difference` finds where a law breaks.
"""

from metaprune.testing.alterations import kill, lively
from metaprune.testing.certificate import Certificate, Law, certify
from metaprune.testing.laws import (
    TOLERANCE,
    Metanetwork,
    assert_equivariant,
    assert_lossless,
    assert_permutation_invariant,
    assert_rotation_invariant,
    assert_round_trip,
    assert_scale_invariant,
)
from metaprune.testing.permutations import symmetries

__all__ = [
    "TOLERANCE",
    "Certificate",
    "Law",
    "Metanetwork",
    "assert_equivariant",
    "assert_lossless",
    "assert_permutation_invariant",
    "assert_rotation_invariant",
    "assert_round_trip",
    "assert_scale_invariant",
    "certify",
    "kill",
    "lively",
    "symmetries",
]
