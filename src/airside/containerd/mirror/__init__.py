"""Mirror settings: they make a node's containerd ask Airside's registry first.

`managed_block`, `hosts_toml`, `registries_yaml` and `cri_config` decide on texts; `locations` finds
the settings of this machine, `apply` plans and writes.
"""
