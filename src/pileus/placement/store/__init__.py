"""Placement's tables and SQL."""
