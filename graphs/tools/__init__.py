"""What every package uses and what knows nothing of networks.

`registry` holds things by name, `files` writes files and folders whole or not at all, and `digests`
tells whether two of them are the same.
"""
