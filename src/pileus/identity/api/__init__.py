"""Handlers of the v3 API, a file per resource."""
