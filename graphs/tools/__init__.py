"""What every package uses and what knows nothing of networks.

`registry` holds things by name, `files` writes files and folders whole or not at all, `digests`
tells whether two of them are the same, and `words` puts numbers before nouns.
"""
