"""Directories that identity reads users and groups from."""
