"""Networks drawn: `stops` are the rows and lanes as values, `folding` says what repeats once,
`lanes` draws. `names` folds the numbers of names.
"""
