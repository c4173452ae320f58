"""Whether a model may serve: gates on what would be deployed, comparison with the champion.

Metrics, files and predictions enter; gates with their evidence leave.
"""
