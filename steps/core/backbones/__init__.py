"""Pretrained networks as ordered stages that can be frozen, cached and entered at any boundary.

A name and weights enter; a network of stages and a head leaves.
"""
