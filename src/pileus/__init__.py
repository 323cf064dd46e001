"""Pileus: the OpenStack cloud platform as one readable Python package."""
