"""A user's module as the calls it makes.

`running` runs it without leaving a trace, `recording` writes down the calls of one forward pass and
`export` asks torch.export where that does not do; `refusals` and `diagnosis` say why neither does.
The others are what these need: names of tensors (`names`), copies of modules (`copying`), results
that need not be computed (`placeholders`), sizes that stay open (`open_sizes`), and nested values.
"""
