"""Tables and SQL of the image service."""
