"""Triples: a network, a budget, and the damage that it does, for whatever learns to foresee it.

`settings` says what is measured, `cases` prunes one network to one target by any budget, `measure`
chooses the budgets and judges them, `store` is what is written: a folder for every case.
"""

from training.triples.measure import measure_triples
from training.triples.settings import TriplesConfig
from training.triples.store import Triples, triples

__all__ = ["Triples", "TriplesConfig", "measure_triples", "triples"]
