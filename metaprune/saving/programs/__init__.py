"""Graph modules as data: a JSON file says the calls, a safetensors file holds what they read.

`operators` is the closed table of what a graph may call, `arguments` says arguments and the
structure of inputs and outputs as JSON, `writing` and `reading` put whole modules together. Nothing
in the files is unpickled or evaluated, and no name in them is looked up outside of the table.
"""

from __future__ import annotations

from metaprune.saving.programs.reading import read_program
from metaprune.saving.programs.writing import write_program

__all__ = ["read_program", "write_program"]
