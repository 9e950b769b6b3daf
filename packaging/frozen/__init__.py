"""Builds the frozen program: Airside with its own Python, for machines that have none."""
