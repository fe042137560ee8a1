"""docs/reliability.md: what became of processes that were killed and of files that were damaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = """# Reliability

What was done to metaprune on purpose, and what became of it. `python -m benchmarks.faults` does
it (`make faults`), `make docs` writes this page. Counts are those of the last run of each row, and
of renames and writes so many of all there are, chosen at random; faults that earlier runs found
were mended between them.

{summary}

"Rerun equal" means: nothing under its own name was half-written, the same command ended well
afterwards (or refused, because all was there), every plan, tensor and specification is bit for bit
that of an undisturbed run, and nothing of the disturbed one is left over. "Refused" means: our own
error, which names the file, within two seconds.

| fault | of | times | outcomes |
|---|---|---|---|
"""

TAIL = """
## What the faults are

- **Kills and signals** end a process at a random moment of its work, or just before and after a
  file gets its name. `prune` finds masks by ADMM for two targets, `finetune` prunes channels and
  trains with checkpoints every two steps, `zoo` trains three networks, `train` a metanetwork on
  them; all are small, and in processes that have imported everything already.
- **Disk full**: giving a file its name fails with "no space left"; the process must say it in one
  sentence.
- **Damages of chance**: one of six to one file of the kind: a flipped bit, a cut, other bytes,
  more bytes, fewer, a hole; in JSON as often another value. Plans and configurations are there to
  be edited, so that other values in them may be read as what they say.
- **Folders that mean harm** name operators, classes, functions, kernels and repositories that are
  none of metaprune's, or sizes that their tensors do not have, with digests that fit
  ([security](security.md)).
- **Threads** prune four networks at once; each must be what it is alone, and what they switch for
  the whole process must be as it was.

Not tried: power cuts (files are not forced to the disk), network file systems, other systems than
Linux.

## How it is done

Files and folders are written in a hidden folder beside their place, `.NAME.….unfinished`, and
take their name when all is in them. Its maker holds a lock on that folder, which ends with the
process, however that ends: whoever writes there next removes what killed ones left, and nothing
that somebody is still writing.

| what | continues | from |
|---|---|---|
| `metaprune prune` | the same command, `hydra.run.dir` given | plans, steps, training |
| `metaprune.prune(checkpoints=...)` | the same call | plans, steps, training |
| `metaprune stream` | the same command | each block |
| `metaprune zoo`, `train`, `triples` | the same command | each checkpoint, each measured budget |
| a search with `journal` | the same search | each evaluation |

What belongs to other settings, weights or data is refused. Inside the solving of one step nothing
is kept: that step begins again. Workers of a zoo end within a second or so of the process that
started them."""

BAD = {
    "code executed": "code executed",
    "raw traceback": "raw tracebacks",
    "hung": "hangs",
    "slow": "readings slower than two seconds",
    "half-written": "half-written",
    "silently different": "silently different",
    "rerun differs": "reruns that differ",
    "rerun hangs": "reruns that hang",
    "rerun fails": "reruns that fail",
    "left over": "leftovers",
    "opened": "harmful folders opened",
    "other exit": "unexpected exits",
    "flags left switched": "flags left switched",
}


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page as Markdown.

    Args:
        rows: of `benchmarks.faults`.
    """
    total = sum(row["runs"] for row in rows)
    counts = {word: sum(row["outcomes"].get(name, 0) for row in rows) for name, word in BAD.items()}
    wrong = [f"{word} {count}" for word, count in counts.items() if count]
    fine = ", ".join(word for word, count in counts.items() if not count)
    summary = f"{total:,} faults. {'None' if not wrong else 'Also none'} of these: {fine}."
    if wrong:
        summary = f"**{'; '.join(wrong)}**. {summary}"
    lines = [_line(row) for row in rows]
    return HEAD.format(summary=summary) + "\n".join(lines) + "\n" + TAIL


def _line(row: Mapping[str, Any]) -> str:
    outcomes = ", ".join(
        f"**{name} {count:,}**" if name in BAD else f"{name} {count:,}"
        for name, count in sorted(row["outcomes"].items(), key=lambda pair: -pair[1])
    )
    return f"| {row['fault']} | {row['subject']} | {row['runs']:,} | {outcomes} |"
