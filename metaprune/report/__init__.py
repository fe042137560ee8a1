"""Reports: what a run found out, as JSON, as a page and as a table.

`schema` holds the report as a value, and `outline` reads off a network what is drawn of it.
`pages`, `table` and `folder` show it, `sections` holds a page's parts, `network` draws the network,
and `ranking` says who leads. `documents` reads JSON of a known format; `words`, `theme` and
`markup` are the figures, colours and pieces of HTML that every page of metaprune shares; the
templates are in `metaprune/templates`.
"""

from metaprune.report.folder import write
from metaprune.report.pages.report import page
from metaprune.report.schema import Edge, Entry, Layer, Node, Report
from metaprune.report.table import print_table, rows

__all__ = ["Edge", "Entry", "Layer", "Node", "Report", "page", "print_table", "rows", "write"]
