"""Architectures under test: the register, its definitions by field, and the laws they obey.

Importing the package fills the register.
"""

from tests.architectures import definitions
from tests.architectures.registry import ARCHITECTURES, Architecture, available, build

__all__ = ["ARCHITECTURES", "Architecture", "available", "build", "definitions"]
