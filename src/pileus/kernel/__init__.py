"""Shared mechanisms that know no service."""
