"""Expected loss: the least sum of what every decision is expected to cost the predictions.

`masks`, `widths` and `ranks` are the rule for each of them; `shots` finds widths from curves, in
one step or in several, `options` says what may be asked.
"""

from pruners.budgets.rules.expected_loss import masks, ranks, widths  # noqa: F401 (registered)
