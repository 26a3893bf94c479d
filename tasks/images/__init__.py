"""Images: decoded, compared, classified, drawn on."""
