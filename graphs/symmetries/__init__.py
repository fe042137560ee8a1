"""Symmetries: what may be done to the weights along an axis without changing the function.

`values` says which group acts on an axis and on which tensors. `find` finds it from the operators
between what makes an axis and what reads it (`walk`, one axis at a time, with `states` of its
values and `parity` for which side turns against which); `scales` does so for scales. `turn` applies
a member, `fold` brings norms out of its way, and `untie` gives tied tensors values of their own.
"""
