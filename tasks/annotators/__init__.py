"""What says which tags and captions an image has."""
