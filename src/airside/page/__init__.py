"""The web page under `/ui/`: rendered here, readable without scripts (ADR 0040)."""
