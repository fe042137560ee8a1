"""From a network back to a module of its class.

`rebuild` leads through it and `inplace` does it in the module that was traced. Which attributes
must change is read from the evidence of calls and tensors (`attributes`, `configs`, `layers`,
`attention`) and tried by `search`; that the forward then computes the program is told by its calls
(`follow`) or by its outputs (`compare`, against the program that `interpreter` runs). `ties` gives
tied parameters values of their own.
"""
