"""What tensors run along: the values below everything else.

`dims` has axes and the dimensions made of them (concatenations of products), `unify` states which
dimensions are one, and `extents` counts positions as functions of the sizes of axes.
"""
