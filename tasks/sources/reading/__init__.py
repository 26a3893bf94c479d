"""How files of foreign formats become items: rows of a CSV, columns of a table, samples of a tar, pieces of either."""
