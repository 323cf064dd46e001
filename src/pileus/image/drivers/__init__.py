"""Where image data is kept."""
