"""What trained models are worth on the test set.

Models and test rows enter; metrics with intervals, predictions and weak spots leave.
"""
