"""Symmetries: what may be done to the weights along an axis without changing the function.

`values` says which group acts on an axis and on which tensors. `find` finds it, one axis after
another, from the operators between what makes the axis and what reads it (`passing`); `scales` does
so for scales. `turn` applies a member (`members` has random ones), `fold` brings norms out of its
way, with their `shifts`, and `untie` gives tied tensors values of their own. `nodes` and
`positions` say where in a program and in a tensor an axis is.
"""
