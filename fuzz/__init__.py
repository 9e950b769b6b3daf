"""Coverage-guided fuzzing: `make fuzz`, or `python -m fuzz` (docs/fuzzing.md).

A target is a function of any bytes that raises an error for a finding. Targets need no fuzzer:
`make test` runs the recorded findings through the same functions.
"""
