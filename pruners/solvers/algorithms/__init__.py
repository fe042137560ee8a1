"""Solvers, one algorithm a file: its class, its name, and what it gives and needs."""
