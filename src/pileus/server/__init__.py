"""Assembly: which rooms run in which process, and how they reach each other."""
