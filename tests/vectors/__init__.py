"""A modality that only the tests have: rows of numbers in a table, read by a small network."""
