"""``policy``: what a collection is for, and what may be done with it; and the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from e2vsearch.cli.command import command, group
from e2vsearch.cli.facts import policy_facts
from e2vsearch.cli.options import OpenOptions
from e2vsearch.cli.output import Results

_SHOWN = 160  # characters of a request in a table


@command(
    'policy set --purpose "unhappy callers" --retention-days 90 --audit',
    "policy set --channel-role 0=agent,1=customer",
)
def set_(
    purpose: Annotated[str | None, typer.Option(help="What the recordings are analysed for.")] = None,
    legal_basis: Annotated[
        str | None, typer.Option(help="Of processing them, e.g. 'Art. 6(1)(f) GDPR, balanced in DPIA 7'.")
    ] = None,
    notice: Annotated[
        str | None, typer.Option(help="How callers are told, as Art. 50(3) of the EU AI Act asks.")
    ] = None,
    contact: Annotated[str | None, typer.Option(help="Whom they ask for access, objection or erasure.")] = None,
    retention_days: Annotated[
        int | None, typer.Option(help="Days that a recording is kept after it was made; 0 for no limit.", min=0)
    ] = None,
    channel_role: Annotated[
        str | None,
        typer.Option(
            help='Whose voice a channel has, customer or agent, in recordings added from now on; "" for none. The '
            "agent's is not analysed.",
            metavar="0=agent,1=customer",
        ),
    ] = None,
    employee_field: Annotated[
        list[str] | None,
        typer.Option(help="A column of --meta that names employees; repeatable, agent by default.", metavar="NAME"),
    ] = None,
    employee_purpose: Annotated[
        str | None,
        typer.Option(
            help="The medical or safety reason for which emotion may be analysed by employee (EU AI Act, Art. "
            '5(1)(f)); "" to refuse it, which is the default.'
        ),
    ] = None,
    analyse_agent: Annotated[
        bool | None,
        typer.Option(
            "--analyse-agent/--no-analyse-agent", help="Analyse the agent's channel too; needs --employee-purpose."
        ),
    ] = None,
    audit: Annotated[
        bool | None, typer.Option("--audit/--no-audit", help="Note each query and comparison in the audit log.")
    ] = None,
    *,
    options: OpenOptions,
    results: Results,
) -> None:
    """Set what is given; the rest stays. Each change is noted in the audit log."""
    from e2vsearch.policy import parse_roles

    given: dict[str, Any] = {
        "purpose": purpose,
        "legal_basis": legal_basis,
        "notice": notice,
        "contact": contact,
        "channel_roles": None if channel_role is None else parse_roles(channel_role),
        "employee_fields": employee_field or None,
        "employee_purpose": employee_purpose,
        "analyse_agent": analyse_agent,
        "audit": audit,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if retention_days is not None:
        changes["retention_days"] = retention_days or None
    if not changes:
        raise typer.BadParameter("name what to set, such as --purpose or --retention-days")
    with options.open(create=True) as collection:
        policy = collection.set_policy(**changes)
    results.write_facts(policy.plain(), policy_facts(policy))


@command("audit", "audit -o audit.csv")
def audit(*, options: OpenOptions, results: Results) -> None:
    """List the audit log. Who asked what, and which ids came back; the oldest first."""
    with options.open() as collection:
        rows = [asdict(entry) for entry in collection.audit()]
    columns = {"at": "at (UTC)", "actor": "actor~", "action": "action", "results": "results>", "request": "request¶"}
    none = "the audit log is empty - it begins with: e2vsearch policy set --audit"
    results.write_rows(rows, columns, none=none, table=[{**row, **_shown(row)} for row in rows])


@command("policy", "policy show --format json")
def show(*, options: OpenOptions, results: Results) -> None:
    """Show what a collection is for, how long it is kept, and whose voices are analysed."""
    with options.open() as collection:
        found = collection.policy
    results.write_facts(found.plain(), policy_facts(found))


policy = group("policy", "What a collection is for, and what may be done with it.", show, set_, main="show")


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of an entry that people read in another form."""
    request = ", ".join(f"{name}: {value}" for name, value in row["request"].items())
    request = request if len(request) <= _SHOWN else f"{request[: _SHOWN - 1]}…"
    return {"at": f"{row['at']:%Y-%m-%d %H:%M:%S}", "request": request, "results": len(row["results"])}
