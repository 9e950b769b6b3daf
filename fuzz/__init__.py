"""Coverage-guided fuzzing: `make fuzz`, or `python -m fuzz` (docs/fuzzing.md).

A target is a function that takes any bytes and raises for what must not happen. Targets need no
fuzzer: the findings that were kept are run by `make test` through the same functions.
"""
