"""Builds Airside's own image from the frozen program, with Airside's own archive writer."""
