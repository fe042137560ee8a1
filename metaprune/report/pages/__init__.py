"""Whole pages: of a `report`, of a `sweep` of them, and of the `training` of a metanetwork."""
