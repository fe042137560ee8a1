"""The structure of a network as tables, without its weights.

`matrices` reads every tensor as a matrix of positions with taps (`taps` are their coordinates),
`tiles` packs the matrices into blocks, `layout` puts it all together once for a structure. `edges`
lists every entry as an edge; `describe` is what is known of axes and tensors.
"""
