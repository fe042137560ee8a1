"""Budget rules on the same protocols: masks, widths and ranks of language models and images.

`suites` lists what is measured, `rules` by what it is divided, `texts` and `images` hold what each
network is calibrated and judged on. `cells` measures one cell and writes it down, `tables` prints
what was measured as Markdown. `surgeon` measures LLM Surgeon beside, which `kronecker` holds.
"""
