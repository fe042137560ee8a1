"""What comes out of a pruning, as values: below everything that plans, carries out and saves.

`dense` is what is remembered of the network before, `history` what was done to a module, `pruned`
the result itself. `accounting` counts what was built, and `provenance` says with which versions and
on what machine.
"""
