"""Reports: what a run found out, as JSON, as a page and as a table."""

from metaprune.report.html import page
from metaprune.report.schema import Edge, Entry, Layer, Node, Report
from metaprune.report.table import print_table, rows
from metaprune.report.write import write

__all__ = ["Edge", "Entry", "Layer", "Node", "Report", "page", "print_table", "rows", "write"]
