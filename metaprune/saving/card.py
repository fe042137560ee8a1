"""The card of a pruned network: what it is, for a person who finds the folder."""

from __future__ import annotations

from metaprune.report import words
from metaprune.results.pruned import Pruned
from pruners import Plan

OPENED = {
    "plain": "in its own class; transformers' own from_pretrained opens it too",
    "source": "in its own class",
    "transformers": "in its own class",
    "exported": "as its exported graph",
}


def card(result: Pruned, name: str, kind: str, trust: bool) -> str:
    """A README for a folder.

    Args:
        result: what was saved.
        name: of the folder.
        kind: how it comes back; a key of `OPENED`.
        trust: whether opening it runs a function of the user's.
    """
    dense, now = result.report["dense"], result.report["achieved"]
    rows = [
        ("MACs", words.count(dense["macs"]), words.count(now["macs"])),
        ("parameters", words.count(dense["params"]), words.count(now["params"])),
        ("size", f"{dense['size_mb']:.3g} MB", f"{now['size_mb']:.3g} MB"),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    steps = ", then ".join(map(_said, result.plan.steps))
    said = [*result.report.get("transform", {}).get("notes", ()), *result.report["notes"]]
    notes = "\n".join(f"- {note}" for note in said)
    return f"""# {name}

A network pruned by metaprune: {steps}.

| | dense | pruned |
|---|---|---|
{table}

```python
import metaprune
model = metaprune.load("{name}"{", trust=True" if trust else ""})   # comes back {OPENED[kind]}
```

`plan.json` says what was kept and can be edited and replayed with `metaprune.apply`; `report.json`
says what was asked and achieved, and what was left alone and why.

{notes}
"""


def _said(step: Plan) -> str:
    asked = words.asked(step.asked) or "nothing but the pattern"
    return f"pattern {step.pattern}, budget {step.budget}, asked {asked}"
