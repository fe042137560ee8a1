"""The traced program: a graph of calls whose size arguments are known over axes.

`program` holds it and rewrites it for other sizes, `module` makes a module of it that trains,
`rescale` keeps root-mean-square norms exact, and `widening` computes it in double precision.
"""
