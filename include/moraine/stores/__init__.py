"""Object stores: the port (`base`), a local directory, memory, S3, and what wraps or examines any of them.

Nothing here knows what a pack, a snapshot or a repository is.
"""
