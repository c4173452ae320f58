"""The files that production runs: ONNX export, quantisation, parity with the judged model, latency.

A trained model enters; files and how they compare leave.
"""
