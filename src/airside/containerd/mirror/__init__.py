"""Mirror settings: what makes a node's containerd ask Airside's registry first.

`marks`, `hosts`, `registries` and `criconfig` decide on texts; `nodes` finds what this machine has,
`edits` plans and writes.
"""
