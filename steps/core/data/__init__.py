"""How a data set lies on disk or behind a URL, read into a table with a row per sample.

A path enters; a table of path, label, split, group and file facts leaves.
"""
