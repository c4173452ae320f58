"""The artifacts that travel between the phases: frozen, and a folder of plain files on disk.

Importing a module of this package must stay cheap: looking at the DAG needs the types only.
"""
