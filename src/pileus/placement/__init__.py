"""Placement: what there is to use, who uses it, and where a request fits."""
