"""Writes one layer into the directories of a snapshot, as containerd's Apply does (ADR 0045).

`write` is the way in. It runs in a confined process that ends after little work (ADR 0046): what
that process imports is the standard library and `airside.core.errors` only.
"""

WORKER_COMMAND = "layer-writer"
"""The first argument of a frozen `airside` that runs the worker instead of a command."""
