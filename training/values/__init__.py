"""Values that learn: what a budget does to a network, foreseen from what others did to others.

`cases` puts triples beside the facts of their networks, `learned` is what plans use of a trained
network, `fit` trains one, `judge` tells how good it is on families that it did not see.
"""

from training.values.cases import Known, known_of
from training.values.fit import ValueConfig, fit_value
from training.values.judge import left_out_families
from training.values.learned import LearnedValue

__all__ = ["Known", "LearnedValue", "ValueConfig", "fit_value", "known_of", "left_out_families"]
