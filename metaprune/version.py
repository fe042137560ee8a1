"""The version of metaprune, for everybody who needs to say it."""

__version__ = "0.1.0"
