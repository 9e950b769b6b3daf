"""Writes image archives: docker-archives, and OCI layouts in a tar.

`docker_members` and `oci_members` yield the `Member`s of an archive (small and pure), then
`write_archive` streams them. What always holds:

- the same images give the same bytes: times and owners are 0, the order is fixed;
- layers are streamed in chunks, never held in memory;
- every blob is hashed while it is copied, so that nothing is written under a wrong digest;
- the document that names the images is the last member, as other tools write it.

The caller checks that the layers' digests agree with the config's diff IDs.
"""
