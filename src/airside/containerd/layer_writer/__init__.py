"""Writes one layer into the directories of a snapshot, as containerd's Apply does (ADR 0045).

`write` is the way in. The package runs in a confined process that ends after little work: it
imports the standard library and `airside.core.errors` only.
"""
