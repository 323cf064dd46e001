"""What the image service decides; transactions start and end here."""
