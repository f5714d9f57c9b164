"""The policy of a collection: what it is for, which channels are analysed, and for how long recordings are kept.

The EU's AI Act (Regulation (EU) 2024/1689), Art. 5(1)(f), prohibits inferring the emotions of employees at work, except
for medical or safety reasons. So an agent's channel is not analysed, and no emotion is shown by employee, unless the
policy says why that is lawful (`RESPONSIBLE-USE.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from e2vsearch.errors import SettingsError, UnlawfulUse

Role = Literal["customer", "agent"]
"""Whose voice a channel has."""

ROLES: tuple[Role, ...] = get_args(Role)

_MAX_TEXT = 2000  # characters


@dataclass(frozen=True, slots=True)
class Policy:
    """What a collection is for, and what may therefore be done with it.

    Attributes:
        purpose: what the recordings are analysed for.
        legal_basis: of processing them, such as Art. 6(1)(f) GDPR.
        notice: how callers are told, as Art. 50(3) of the AI Act asks since 2 August 2026.
        contact: whom they ask for access, objection or erasure.
        retention_days: how long a recording is kept after it was made (its date); None for no limit.
        channel_roles: whose voice a channel has: ``{0: "agent", 1: "customer"}``. Of recordings added from then on.
        employee_fields: columns of ``--meta`` that name employees.
        employee_purpose: why emotion may be analysed by employee: a medical or safety reason. "": it may not.
        analyse_agent: whether the agent's channel is analysed as the customer's is; only with an `employee_purpose`.
        audit: whether each query is noted in an audit log.

    Raises:
        SettingsError: a value that makes no sense.

    Example:
        >>> Policy(purpose="find unhappy callers", retention_days=90).retention_days
        90
        >>> Policy(analyse_agent=True)
        Traceback (most recent call last):
        e2vsearch.errors.SettingsError: analyse_agent needs an employee_purpose - write down the reason that allows it
    """

    purpose: str = ""
    legal_basis: str = ""
    notice: str = ""
    contact: str = ""
    retention_days: int | None = None
    channel_roles: Mapping[int, Role] = field(default_factory=dict)
    employee_fields: tuple[str, ...] = ("agent",)
    employee_purpose: str = ""
    analyse_agent: bool = False
    audit: bool = False

    def __post_init__(self) -> None:
        for name in ("purpose", "legal_basis", "notice", "contact", "employee_purpose"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > _MAX_TEXT:
                raise SettingsError(f"{name} is a text of at most {_MAX_TEXT:,} characters - shorten it")
            object.__setattr__(self, name, " ".join(text.split()))
        for name in ("analyse_agent", "audit"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} is true or false, not {getattr(self, name)!r}")
        days = self.retention_days
        if days is not None and (not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 36_500):
            raise SettingsError(f"retention_days is a number of days from 1 to 36,500, not {days!r} - none is no limit")
        object.__setattr__(self, "channel_roles", roles_of(self.channel_roles))
        names: Any = self.employee_fields
        if isinstance(names, str) or not all(isinstance(each, str) and each.strip() for each in names):
            raise SettingsError(f"employee_fields are names of columns such as agent, not {names!r}")
        object.__setattr__(self, "employee_fields", tuple(dict.fromkeys(each.strip() for each in names)))
        if self.analyse_agent and not self.employee_purpose:
            raise SettingsError("analyse_agent needs an employee_purpose - write down the reason that allows it")
        if not self.employee_fields and not self.employee_purpose:
            raise SettingsError("employee_fields name one column or more - none at all needs an employee_purpose")

    @classmethod
    def of(cls, values: Mapping[str, Any] | None) -> Policy:
        """Return the policy of plain values, as `plain` makes them or by the names of its attributes.

        Raises:
            SettingsError: a name that no policy has, or a value that makes no sense.
        """
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(values or ()) - known)
        if unknown:
            raise SettingsError(f"a policy has no {unknown[0]!r} - it has: {', '.join(sorted(known))}")
        return cls(**(values or {}))

    def plain(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        roles = {str(channel): role for channel, role in self.channel_roles.items()}
        return {**asdict(self), "channel_roles": roles, "employee_fields": list(self.employee_fields)}

    def with_roles(self, roles: Mapping[int, Role] | None) -> Policy:
        """Return the policy for a recording whose channels have roles of their own; None or none for the policy's."""
        return replace(self, channel_roles=roles) if roles else self

    def roles(self, channels: int) -> tuple[Role | None, ...] | None:
        """Return the role of each of a recording's channels, None where it is not known; None where none is.

        Roles of more channels than there are fit no recording with fewer, in which several voices share one channel.
        """
        if not self.channel_roles or max(self.channel_roles) >= channels:
            return None
        return tuple(self.channel_roles.get(channel) for channel in range(channels))

    def analysed(self, channels: int) -> list[int]:
        """Return the channels, of so many, that are analysed: all but the agent's, unless the policy allows that."""
        roles = None if self.analyse_agent else self.roles(channels)
        return [channel for channel in range(channels) if roles is None or roles[channel] != "agent"]

    def employees_among(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of some columns of the metadata that name employees; ``meta.agent`` is ``agent``."""
        known = {each.casefold() for each in self.employee_fields}
        return tuple(dict.fromkeys(each for each in names if each.removeprefix("meta.").casefold() in known))

    def refused(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of some columns by which emotion may not be analysed."""
        return () if self.employee_purpose else self.employees_among(names)

    def check_employees(self, names: Iterable[str]) -> None:
        """Check that emotion may be analysed by some columns of the metadata.

        Raises:
            UnlawfulUse: one of them names employees, and no purpose allows that.
        """
        if found := self.refused(names):
            raise UnlawfulUse(
                f"emotion by {found[0]} is emotion by employee: Art. 5(1)(f) of the EU AI Act prohibits that at work - "
                "use a column such as queue or reason; where a medical or safety reason allows it, write that down: "
                "e2vsearch policy set --employee-purpose REASON"
            )


def roles_of(given: Mapping[Any, Any]) -> dict[int, Role]:
    """Return checked roles by number of the channel, in order; numbers and roles may be text, as in a table.

    Raises:
        SettingsError: a channel or role that there is not.
    """
    if not isinstance(given, Mapping):
        raise SettingsError(f"channel_roles are a role for each channel, {{0: 'agent', 1: 'customer'}}, not {given!r}")
    roles: dict[int, Role] = {}
    for channel, role in given.items():
        text, name = str(channel).strip(), str(role).strip().lower()
        if not (text.isascii() and text.isdecimal()) or len(text) > 3:
            raise SettingsError(f"a channel is a number from 0, not {channel!r} - write 0=agent,1=customer")
        if name not in ROLES:
            raise SettingsError(f"the role of channel {text} is {' or '.join(ROLES)}, not {role!r}")
        roles[int(text)] = name
    return dict(sorted(roles.items()))


def parse_roles(text: str) -> dict[int, Role]:
    """Return the roles that ``0=agent,1=customer`` gives to channels; none of an empty text.

    Raises:
        SettingsError: it does not parse.

    Example:
        >>> parse_roles("0=agent,1=customer")
        {0: 'agent', 1: 'customer'}
    """
    parts = [each.partition("=") for each in text.split(",") if each.strip()]
    if len({channel.strip() for channel, _, _ in parts}) < len(parts):
        raise SettingsError(f"a channel has one role - {text!r} gives one of them two")
    return roles_of({channel: role for channel, _, role in parts})
