"""Images: the only code that knows pixels.

File bytes enter; facts, findings, views and network inputs leave.
"""
