"""The command line: one module a command, each with a function `run(config)`.

`main` finds the command and hands it to hydra, `help` shows what can be set, and `config` turns
composed YAML into typed values. `study` is what `prune` and `demo` have in common.
"""
