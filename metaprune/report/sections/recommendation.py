"""What a reader should take away: one network, its figures, and the code that opens it."""

from __future__ import annotations

from markupsafe import Markup

from metaprune.report import markup, words
from metaprune.report.ranking import by_target, gives_up_little, leaders, recommended
from metaprune.report.schema import Entry, Report

NOTHING = "No network was saved (save=false), so there is none to recommend."


def recommendation(report: Report) -> Markup:
    """The section, as HTML."""
    entry = recommended(report)
    if entry is None:
        nothing = [NOTHING if report.entries else "Nothing was pruned."]
        return markup.render("sections/recommendation.html", sentences=nothing, code=None)
    own = report.config.get("model", {}).get("source") != "function"
    return markup.render(
        "sections/recommendation.html",
        sentences=sentences(report, entry),
        code=code(entry, trust=not own),
    )


def sentences(report: Report, entry: Entry) -> list[str]:
    """What the network is, how good, where, and by what it was chosen among others."""
    score = report.score
    dense, own = (words.metric(score, m[score]) for m in (report.dense, entry.final))
    sure = words.within(score, entry.interval)
    after = " after finetuning" if entry.after else ""
    smaller = words.saved(entry.achieved, report.cost["params"])
    asked = words.asked(entry.asked)
    found = [
        f"Take {entry.folder}: {entry.method} at {asked}, {score} {own}"
        f"{f' ({sure})' if sure else ''}{after} (dense {dense}), {smaller}."
    ]
    if not gives_up_little(report, entry):
        found.append(
            "All networks that were saved give up much: finetuning, or a milder target, would help."
        )
    group = next(entries for entries in by_target(report) if entry in entries)
    if entry.held_out:
        found += _chosen(report, entry, [one for one in group if one is not entry])
    best = leaders(report, group)
    if entry in best and len(best) > 1:
        names = " and ".join(one.method for one in best if one is not entry)
        differ = "differs" if len(best) == 2 else "differ"
        found.append(
            f"On the {report.split} split {names} {differ} from it by no more than chance."
        )
    if entry not in best:
        names = " and ".join(one.method for one in best)
        found.append(f"On the {report.split} split {names} did better.")
    return found


def _chosen(report: Report, entry: Entry, others: list[Entry]) -> list[str]:
    """By what it was chosen, and whether that is to be trusted."""
    score, own = report.score, entry.held_out[report.score]
    alike = [one.method for one in others if one.held_out[score] == own]
    less = [one for one in others if one.held_out[score] != own]
    said = ", ".join(f"{one.method} {words.metric(score, one.held_out[score])}" for one in less)
    compared = (f", as has {' and '.join(alike)}" if alike else "") + (
        f", against {said}" if less else ""
    )
    if report.chosen_by["split"] == report.split:
        return [f"Of the methods at this target it has the best score{compared}."]
    found = [
        f"Of the methods at this target it has the best score on {report.chosen_by['examples']:,} "
        f"held-out examples ({report.chosen_by['split']}), {words.metric(score, own)}{compared}."
    ]
    if entry.interval is not None:
        low, high = entry.interval
        sign = 1 if report.higher_is_better else -1
        # Both samples vary: by half of that in either direction.
        if sign * (own - entry.final[score]) > high - low:
            found.append(
                f"That is better than on the {report.split} split by more than chance: the "
                "network was probably trained on these examples, which makes them a weaker judge."
            )
    return found


def code(entry: Entry, trust: bool = False, inside: str | None = None) -> str:
    """Python that opens the network, from the folder of the report.

    Args:
        entry: of the network.
        trust: whether opening it runs a function of the user's.
        inside: folder of the point of a sweep that it is of; None outside of one.
    """
    trusted = ", trust=True" if trust else ""
    place = entry.folder if inside is None else f"{inside}/{entry.folder}"
    return (
        "import metaprune  # in the folder of this report\n"
        f'model = metaprune.load("{place}"{trusted})\n'
        "outputs = model(inputs)"
    )
