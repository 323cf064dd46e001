"""Tables and SQL; nothing leaves but rows and dictionaries."""
