"""Placement's decisions; transactions start and end here."""
