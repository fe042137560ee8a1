"""The command line: one module a command (`commands`), each with a function `run(config)`.

`main` finds the command and hands it to hydra, `overrides` checks names before, `help` shows what
can be set. `config` turns composed YAML into typed values, those that commands share are in
`settings`. `study` is what `prune` and `demo` have in common, `methods` what they compare.
"""
