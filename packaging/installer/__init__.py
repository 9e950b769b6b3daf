"""Builds the file that installs Airside by itself, `airside-VERSION-ARCH.run`."""
