"""The `pileus` command. The operator's part assembles services; the user's part goes through the public API."""
