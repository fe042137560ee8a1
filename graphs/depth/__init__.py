"""Whole residual branches: `branches` finds those that may go, `drop` takes them out."""
