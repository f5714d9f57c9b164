"""Tables of facts: an index, a policy and checks, a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e2vsearch.cli.output import size
from e2vsearch.cli.table import Column

if TYPE_CHECKING:
    from e2vsearch.policy import Policy


CHECKED: Mapping[str, str | Column] = {
    "name": "what~",
    "state": "state",
    "found": "found¶",
    "cure": Column(fit="wrap", below=True),
}
"""Columns of checks."""


def checked(rows: Sequence[Mapping[str, Any]], lacking: str, without: str = "") -> list[dict[str, Any]]:
    """Return checks as rows of a table.

    Args:
        rows: checks, as dictionaries.
        lacking: the state of one that is not ok.
        without: the state of one that is not, but need not be.
    """
    table = []
    for row in rows:
        state = "ok" if row["ok"] else lacking if row.get("needed", True) else without
        table.append({**row, "state": state, "cure": f"cure: {row['cure']}" if row["cure"] and not row["ok"] else ""})
    return table


def index_facts(state: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what people want to know of an index."""
    newer = f"{state['tail']:,} segments are compared one by one"
    facts = [
        ("index", f"{state['kind']}, {state['n']:,} segments; {newer}" if state["generation"] else f"none; {newer}")
    ]
    if state["engine"] != "faiss":
        facts.append(("engine", state["engine"]))
        if state["sample_stored"]:
            facts.append(("recall", f"{_recall(state)}, breadth {state['breadth']:,}"))
    elif state["nprobe"]:
        facts.append(("recall", _recall(state)))
        facts.append(("nprobe", f"{state['nprobe']} of {state['nlist']} lists, {state['k_factor']}-fold re-rank"))
        facts.append(("lists", f"made for {state['trained_n']:,} segments, {state['trained_at']}"))
    if state["generation"] and state["engine"] != "faiss":
        facts.append(("built", f"{state['built_at']}, {size(state['size'])}" if state["size"] else state["built_at"]))
    elif state["generation"]:
        facts.append(("generation", f"{state['generation']}, {size(state['size'] or 0)}, built {state['built_at']}"))
    if state["tombstones"]:
        facts.append(("tombstones", f"{state['tombstones']:,}"))
    facts += [(name, state[name]) for name in ("note", "damage", "due", "drift") if state[name]]
    return facts


def policy_facts(policy: Policy) -> list[tuple[str, Any]]:
    """Return what people want to know of a policy; what is not set is left out."""
    roles = ", ".join(f"{channel} {role}" for channel, role in policy.channel_roles.items())
    found = [
        ("purpose", policy.purpose),
        ("legal basis", policy.legal_basis),
        ("notice", policy.notice),
        ("contact", policy.contact),
        ("kept for", f"{policy.retention_days:,} days" if policy.retention_days else ""),
        ("channels", roles),
        ("employee fields", ", ".join(policy.employee_fields)),
        ("employee purpose", policy.employee_purpose),
        ("agents analysed", "yes" if policy.analyse_agent else ""),
        ("audit log", "on" if policy.audit else ""),
    ]
    return [(name, value) for name, value in found if value]


def _recall(state: dict[str, Any]) -> str:
    whose = f"{state['sample_stored']:,} stored vectors"
    if state["sample_queries"]:
        whose += f" ({state['recall_stored']:.3f}) and the last {state['sample_queries']:,} queries"
        whose += f" ({state['recall_queries']:.3f})"
    return f"{state['recall']:.3f} of the exact top 20 (target {state['target']:g}), on {whose}, {state['measured_at']}"
