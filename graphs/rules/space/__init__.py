"""Operators over the spatial positions behind the channels: pooling and resampling."""

from graphs.rules.space import pooling, resampling

__all__ = ["pooling", "resampling"]
