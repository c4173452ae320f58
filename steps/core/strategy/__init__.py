"""How to train, found by measurement: the learning-rate search, its finalists, the weight soup.

Batches and a warmed-up network enter; rates and their evidence leave.
"""
