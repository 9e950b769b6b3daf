"""Writes image archives: docker-archives, and OCI layouts in a tar.

An archive is first a list of `Member`s (`docker_members`, `oci_members`: small and pure), then
`write_archive` streams it. What always holds:

- the same images give the same bytes: times and owners are 0, the order is fixed;
- layers are streamed in chunks, never held in memory;
- every blob is hashed while it is copied, so that nothing is written under a wrong digest;
- the document that names the images comes last, as other tools write it.

Left to the caller: whether the layers' digests agree with the config's diff IDs.
"""
