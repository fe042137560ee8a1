"""From calls to a network: which dimensions are one, and what becomes of units that go.

`trace` leads through it: `walk` asks the rule of every call, `assembly` names the axes and makes
the value (`structure`), which `overlooked` and `exactness` have judged axis by axis.
"""
