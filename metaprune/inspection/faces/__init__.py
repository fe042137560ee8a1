"""An inspection as a person sees it: `terminal`, `page` and `folder`.

Their common words are in `sentences`. What repeats is said once: `names` folds the numbers of
names, `repeated_names` groups and modules that differ in nothing else, and `repeated_layers` the
rows of the drawing.
"""
