"""What every room stands on: errors, config base, files that are written whole, locks, memory, secrets.

Nothing here knows data, models or phases.
"""
