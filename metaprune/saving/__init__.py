"""Pruned networks on disk, and as programs for other runtimes.

`folder` writes and opens what `Result.save` promises; below it, `transformers` writes checkpoints
that open without metaprune, `archive` keeps exported programs, `replay` gives a plan's shapes to a
dense architecture, and `card` is the page for people. `export` writes ONNX and torch.export files.
"""
