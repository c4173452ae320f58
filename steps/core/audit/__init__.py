"""What is wrong with a data set: checks, duplicates, leaks, shortcuts, label suspects, drift.

A table, file facts and embeddings enter; findings leave.
"""
