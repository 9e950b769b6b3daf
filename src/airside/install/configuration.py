"""The default configuration that an installation writes: every line is a comment. Pure."""

DEFAULT = """\
# Settings of Airside, for `airside run` and all commands of root. Times are in seconds; sizes in
# bytes, or as text with KiB, MiB, GiB, TiB. What is not set here has its default: airside.toml(5)
# has all settings, `airside config show` the effective ones. After a change:
#   systemctl restart airside

# data = "/var/lib/airside/data"   # store and catalog. On the file system of containerd blobs are
                                   # linked, elsewhere copied; run `airside install` after a change
# listen = "127.0.0.1:5050"        # the registry; "" for none
# data_group = ""                  # a group whose members may use the commands
# offline = false                  # true: never contact upstream registries
# min_free_bytes = "256MiB"        # left free on the file systems of the store and of containerd

# Directories whose archives are imported. Without such a table: /var/lib/airside/images.
# [[images]]
# path = "/var/lib/airside/images"
"""
