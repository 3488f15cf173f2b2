"""The one seam to the kernel: everything that needs a system call Python lacks.

``syscalls`` is the only user of ctypes for system calls; the modules beside it give each its
meaning: ``mounts``, ``namespaces``, ``idmap``, ``cgroups``, ``capabilities``, ``seccomp``,
``process``. They raise :class:`OSError` that names the call; the rooms above turn it into the
engine's errors.
"""
