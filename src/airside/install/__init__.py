"""Installs Airside on a host, and removes it: unit, directories, configuration, manual pages."""
