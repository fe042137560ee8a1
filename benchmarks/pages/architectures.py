"""The page docs/architectures.md, from the rows that `benchmarks.architectures` measured."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

FIELDS = {
    "language": "Causal language models",
    "encoders": "Bidirectional encoders",
    "seq2seq": "Encoder–decoder models of text",
    "speech": "Speech",
    "vision": "Vision (transformers)",
    "multimodal": "Several modalities, time series, video",
    "convnets": "Convolutional classifiers",
    "dense_prediction": "Segmentation, detection, restoration",
    "sequences": "Recurrent, temporal, mixing",
    "generative": "Generative",
    "others": "Recommendation, tables, points, graphs, control, unusual wiring",
    "libraries": "torchvision and timm",
}
SHORT = {
    "exact": "exact",
    "bias-fold": "fold",
    "norm-rescaled": "rescaled",
    "norm-changed": "norm",
    "data-dependent": "data",
}
# What every network leaves alone; it is said once, in the page's head.
USUAL = ("output of the model", "vocabulary entries", "input '", "not use it", "numbered positions")

HEAD = """# Architectures

{traced} of {total} architectures, small but structurally faithful, under every law in float64.
**Silently wrong: {wrong}.** {passed} pass every law, {refused} cannot be traced and are refused
with the reason{skipped}.

```sh
python -m benchmarks.architectures                    # measures every row
python -m benchmarks.architectures --only libraries   # where torchvision and timm are installed
make docs                                             # writes this page
```

The rows of torchvision and timm come from an environment of their own, with a torch that fits them.
Commits {commits}, one thread, with

{versions}

The definitions are in `tests/architectures/definitions`: a configuration of a class of
transformers, a network after its paper, or a builder of torchvision or timm. Adding one is one
entry.

Each is traced once and put under

- the round trip, bit for bit, and the traced program against the module;
- the laws of copies ([laws](laws.md)): training mode, independence of the original, other sizes of
  inputs; rows of torchvision and timm were measured before these were laws;
- random permutations and scales of everything that is declared, also of the module built from them;
- removal of dead units, class of exactness by class;
- removal of a third of what `metaprune.prune` takes from, and of a third of every axis: the result
  must run, give outputs of the same shapes, and compute what the rewritten program computes;
- the same pruned module with other weights, because small ones hide a wrong constant.

A few whose forward or kernels know float32 only compare the pruned module in float32, to 2e-4.

The largest relative deviation over all permutations, scales and exact removals: {deviation:.0e}.
After the removal {kept} of {traced} are of their own class. What the laws leave open: {silent} of
{free:,} groups have so little say in the output that breaking them on purpose does not show either.

| column | |
|---|---|
| groups | axes that may be pruned, of all |
| can go | share of the parameters' entries that lie on such an axis |
| classes | groups by class of exactness, see [Concepts](concepts.md): exact, fold (bias-fold), \
rescaled (norm-rescaled), norm (norm-changed), data (data-dependent) |
| MACs | what is left after a third of every group that `metaprune.prune` takes from went |
| s, MB | CPU seconds and memory of the trace, weights included |
| result | `class`: the pruned module is of its own class; `graph`: it is the traced program |
| left alone | parameters' axes that stay, with their number; without what every network keeps: \
inputs and outputs, entries of vocabularies and position tables, what the forward does not use |
"""


def page(rows: list[dict[str, Any]]) -> str:
    """Markdown of all rows, by field.

    Args:
        rows: one for each architecture, as `benchmarks.architectures.examine` gives them.
    """
    traced = [row for row in rows if "params" in row]
    deviations = [
        row["deviations"][law]
        for row in traced
        for law in ("permutation", "scale", "removal, exact")
        if law in row.get("deviations", {})
    ]
    skipped = sum("skipped" in row for row in rows)
    head = HEAD.format(
        total=len(rows),
        wrong=sum(bool(row["failed"]) for row in traced) or "zero",
        passed=sum(not row["failed"] for row in traced),
        refused=sum("error" in row for row in rows),
        skipped=f", {skipped} could not be imported for this table" if skipped else "",
        versions="\n".join(
            f"- {what}: {n} rows" for what, n in Counter(row["versions"] for row in traced).items()
        ),
        kept=sum(bool(row.get("kept")) for row in traced),
        traced=len(traced),
        silent=sum(len(row.get("silent", ())) for row in traced),
        free=sum(row["free"] for row in traced),
        commits=", ".join(sorted({row["commit"] for row in traced})),
        deviation=max(deviations, default=0.0),
    )
    parts = [head]
    for field, title in FIELDS.items():
        of_field = [row for row in traced if row["field"] == field]
        if of_field:
            parts.append(f"\n## {title}\n\n{_table(of_field)}")
    broken = [row for row in traced if row["failed"]]
    if broken:
        lines = [f"- `{row['name']}`: {', '.join(row['failed'])}" for row in broken]
        parts.append("\n## Laws that do not hold\n\n" + "\n".join(lines) + "\n")
    refused = [row for row in rows if "error" in row]
    if refused:
        lines = [f"- `{row['name']}`: {_clean(row['error'])}" for row in refused]
        parts.append("\n## Refused\n\n" + "\n".join(lines) + "\n")
    if skipped:
        names = ", ".join(f"`{row['name']}`" for row in rows if "skipped" in row)
        parts.append(f"\n## Not imported here\n\n{names}\n")
    return "".join(parts)


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | parameters | groups | can go | classes | MACs | s | MB | result | left alone |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        classes = ", ".join(
            f"{SHORT[kind]} {row['exactness'][kind]}" for kind in SHORT if kind in row["exactness"]
        )
        result = "–" if "kept" not in row else "class" if row["kept"] else "graph"
        cells = [
            row["name"] + (" (**broken**)" if row["failed"] else ""),
            f"{row['params']:,}",
            f"{row['free']}/{row['axes']}",
            f"{row['removable']:.0%}",
            classes or "–",
            f"{row['macs']:.0%}",
            f"{row['seconds']:.1f}",
            f"{row['memory']:.0f}",
            result,
            _left_alone(row["frozen"]),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _left_alone(frozen: dict[str, tuple[int, str]]) -> str:
    """The three reasons that keep most units, with the number of axes."""
    units: Counter[str] = Counter()
    axes: Counter[str] = Counter()
    for size, why in frozen.values():
        if any(text in why for text in USUAL):
            continue
        said = re.sub(r" at [\w/.-]+\.py:\d+", "", why)
        said = re.sub(r"[\w.]+ is not saved", "a buffer is not saved", said)
        units[said] += size
        axes[said] += 1
    return "; ".join(f"{why} ({axes[why]})" for why, _ in units.most_common(3))


def _clean(error: str) -> str:
    """What a refusal says, without the place in this package that raised it."""
    return re.sub(r"^\w+ at \S+: ", "", error).replace("\n", " ")
