"""The commands, one module each with a function `run(config)`.

`conf/COMMAND.yaml` has the settings of each, with their defaults; the dataclass at the top of its
module says what they take. `value` is the part of `train` that fits values of budgets.
"""
