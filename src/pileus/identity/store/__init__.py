"""Identity's tables and SQL."""
