"""What the sources hold now, compared with what was read before: fingerprints, the items' table, and rows merged."""
