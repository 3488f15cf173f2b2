"""Images on disk: three stores that never call each other, and pure functions between them.

* **content** keeps blobs by digest: manifests, configs, and encoded layers while they are needed.
  It knows bytes and digests and nothing of what they mean (``content``).
* **layers** keeps one directory for each diff id (the digest of a layer's uncompressed tar, and its
  identity). A layer's directory does not depend on the layers below it: a deleted name is an
  overlay whiteout (a character device 0/0), a replaced directory carries ``user.overlay.opaque``.
  So layers unpack in parallel and an image is a list of them (``snapshots``, over ``layers``).
* **snapshotters** say, as data, which mounts show a list of layers and a writable directory as one
  file system (``overlay``, ``copying``). Nothing is mounted in this room.

Names and relations (which image has which layers) are the engine's database, above this room. What
is not named there is garbage, and may be deleted at any time unless a lease holds it.

A container's files and a stranger's layer are hostile input. Whatever touches them runs as a
**job** (``jobs``) in a worker process that holds the container's root and little else; above, a job
is called through an injected ``Work``. Formats: ``tar`` and ``tarwrite`` (POSIX pax, GNU),
``config`` (OCI and Docker JSON), ``archive`` (what ``save`` and ``load`` speak).
"""
