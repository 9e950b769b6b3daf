"""The checks of `make check` that no linter has: documents, sizes, and the graph of imports."""
