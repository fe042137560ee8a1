"""Write every generated page and picture of docs/ from the records of what was measured.

    python -m benchmarks.pages      (or: make docs)

Nothing is measured here. Records come from `python -m benchmarks.architectures` and
`bash runs/cifar10_resnets.sh`, and are part of the repository.
"""

from __future__ import annotations

import json
import sys

from benchmarks.pages import architectures, records, tradeoffs
from graphs.tools.files import write_text


def main() -> None:
    """Write the pages, and say which."""
    lines = records.ARCHITECTURES.read_text(encoding="utf-8").splitlines()
    path = records.DOCS / "architectures.md"
    write_text(path, architectures.page([json.loads(line) for line in lines]))
    print(path.relative_to(records.ROOT))
    path = records.DOCS / "results.svg"
    tradeoffs.draw(path, records.CIFAR10)
    print(path.relative_to(records.ROOT))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    main()
