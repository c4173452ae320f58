"""One training loop for every phase that trains.

A network, an objective and batches enter; a trained state, its curve and its calibration leave.
"""
