"""A world whose truth is known: drawn pictures with captions as people write them. See :mod:`.world`."""
