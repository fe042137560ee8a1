"""An inspection as a person sees it: `terminal`, `page` and `folder`.

Their common words are in `sentences`. What repeats is said once: `repeated_names` puts groups and
modules together that differ in nothing but the numbers of their names.
"""
