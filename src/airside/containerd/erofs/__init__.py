"""Layers of containerd's snapshotter `erofs`: a file that is mounted, not a directory of files.

The file `layer.erofs` of a snapshot is an index of the layer's tar, made by mkfs.erofs, and behind
it the tar itself, byte for byte: no inode is made for what the layer contains (ADR 0050).
"""
