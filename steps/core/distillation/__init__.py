"""A smaller model that learns from a larger one, chosen among candidates under a budget.

A teacher and cached features enter; a student and its baselines leave.
"""
