"""Airside: container images for hosts where the network is bad or absent."""

__version__ = "0.2.0"
