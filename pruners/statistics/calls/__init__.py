"""The calls of weights that a forward makes, whatever module makes them.

`linear` recognises products with a parameter, `stacks` those with slices of a stack of matrices
(experts), and `recurrent` opens layers that torch computes in one call. `rows` lays what goes in
and out of a call as the rows that the matrix of its weight turns into each other.
"""

from pruners.statistics.calls.linear import Call, LinearCalls, Watched, function_name

__all__ = ["Call", "LinearCalls", "Watched", "function_name"]
