"""What is predicted: how labels are read, targets and losses, metrics, thresholds, intervals.

Logits and labels enter; losses, predictions and figures with their uncertainty leave.
"""
