"""Sections of the report's page, one file each: score against cost (`tradeoff`), the network and
its budgets (`drawing`), what was `transformed`, and what was `expected` to be lost.

Each is a function from a report to HTML or SVG; `metaprune.report.page` puts them together.
"""
