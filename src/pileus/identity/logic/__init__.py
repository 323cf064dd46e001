"""What identity decides: authentication, validation, roles, and the commands on its resources."""
