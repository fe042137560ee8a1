"""How a matrix passes through a program, operator by operator, along one axis.

`along` holds what is known of the axis on the way, `states` what a value does when its units are
turned, `parity` which values turn against which. `visit` asks the operator, whose word in its rule
(`turns=`) names a function: `moves`, `entries`, `reductions`, `contractions` and `norms`, over what
they share in `operands`.
"""
