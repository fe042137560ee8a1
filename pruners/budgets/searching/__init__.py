"""Searches for the best choice of a budget, by forward passes alone."""
