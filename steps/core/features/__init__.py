"""The frozen-prefix cache: extraction, shards, batches read from it, probes on it.

A table and a network enter; vectors and boundary activations leave.
"""
