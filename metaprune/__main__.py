"""`python -m metaprune ...` is `metaprune ...`."""

from metaprune.cli.main import main

if __name__ == "__main__":
    main()
