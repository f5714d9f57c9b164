"""The policy of a collection: its values, where it is kept, shown and copied to, and the audit log of its changes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from command import Run
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DatabaseError

import e2vsearch
from e2vsearch.catalog.schema import AuditRow
from e2vsearch.errors import ExportError, SettingsError, UnlawfulUse
from e2vsearch.policy import Policy, parse_roles

GIVEN: dict[str, Any] = {
    "purpose": "find unhappy callers",
    "legal_basis": "Art. 6(1)(f) GDPR",
    "notice": "in the announcement",
    "contact": "privacy@example.com",
    "retention_days": 90,
    "channel_roles": {0: "agent", 1: "customer"},
    "employee_fields": ("agent", "team lead"),
    "employee_purpose": "safety of the night shift",
    "analyse_agent": True,
    "audit": True,
}


def test_a_policy_is_the_same_after_json() -> None:
    policy = Policy(**GIVEN)
    assert Policy.of(json.loads(json.dumps(policy.plain()))) == policy
    assert Policy.of(None) == Policy()
    assert {**asdict(policy), **GIVEN} == asdict(policy)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"retention_days": 0}, "retention_days is a number of days from 1 to 36,500, not 0"),
        ({"retention_days": True}, "retention_days is a number of days"),
        ({"retention_days": "90"}, "retention_days is a number of days"),
        ({"purpose": "x" * 2001}, "purpose is a text of at most 2,000 characters"),
        ({"contact": None}, "contact is a text"),
        ({"audit": "yes"}, "audit is true or false, not 'yes'"),
        ({"channel_roles": {0: "boss"}}, "the role of channel 0 is customer or agent, not 'boss'"),
        ({"channel_roles": {"left": "agent"}}, "a channel is a number from 0, not 'left'"),
        ({"channel_roles": ["agent"]}, "channel_roles are a role for each channel"),
        ({"employee_fields": "agent"}, "employee_fields are names of columns such as agent"),
        ({"employee_fields": [""]}, "employee_fields are names of columns such as agent"),
        ({"employee_fields": []}, "employee_fields name one column or more"),
        ({"analyse_agent": True}, "analyse_agent needs an employee_purpose"),
        ({"porpoise": "x"}, "a policy has no 'porpoise' - it has: analyse_agent"),
    ],
)
def test_values_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        Policy.of(values)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_roles_of_channels() -> None:
    assert parse_roles("1=customer, 0 = Agent") == {0: "agent", 1: "customer"}
    assert parse_roles("") == {}
    for wrong in ("0", "0=agent,0=customer", "-1=agent", "0=agent;1=customer"):
        with pytest.raises(SettingsError):
            parse_roles(wrong)
    policy = Policy(channel_roles={0: "agent", 1: "customer"})
    assert (policy.roles(2), policy.analysed(2)) == (("agent", "customer"), [1])
    assert (policy.roles(3), policy.analysed(3)) == (("agent", "customer", None), [1, 2])
    assert (policy.roles(1), policy.analysed(1)) == (None, [0])  # both voices in one channel
    assert (Policy().roles(2), Policy().analysed(2)) == (None, [0, 1])
    assert Policy(channel_roles={0: "agent"}).analysed(1) == []
    assert policy.with_roles({1: "agent"}).roles(2) == (None, "agent")
    assert policy.with_roles(None) == policy.with_roles({}) == policy
    assert replace(policy, employee_purpose="safety", analyse_agent=True).analysed(2) == [0, 1]


def test_emotion_by_employee_needs_a_purpose() -> None:
    with pytest.raises(UnlawfulUse) as error:
        Policy().check_employees(["queue", "meta.Agent"])
    assert "Art. 5(1)(f)" in str(error.value)
    assert "--employee-purpose" in str(error.value)
    Policy(purpose="find unhappy callers").check_employees(["queue"])
    with pytest.raises(UnlawfulUse):  # what the recordings are for in general allows no emotion by employee
        Policy(purpose="find unhappy callers").check_employees(["agent"])
    Policy(employee_purpose="safety").check_employees(["agent"])
    with pytest.raises(UnlawfulUse):
        Policy(employee_fields=("clerk",)).check_employees(["clerk"])


def test_a_policy_is_stored_and_changed_in_part(database_url: str) -> None:
    with e2vsearch.open(database_url, create=True) as collection, e2vsearch.open(database_url) as other:
        assert other.policy == Policy()
        assert collection.set_policy(**GIVEN) == Policy(**GIVEN)
        assert other.policy == collection.policy == other.status().policy == Policy(**GIVEN)  # by another connection
        other.set_policy(retention_days=None, purpose="another")
        assert collection.policy == Policy(**{**GIVEN, "retention_days": None, "purpose": "another"})
        with pytest.raises(SettingsError):
            collection.set_policy(purpose="lost", retention_days=-1)
        with pytest.raises(SettingsError):
            collection.set_policy(employee_purpose="")  # while agents are analysed
        assert collection.policy.purpose == "another"


def test_the_audit_log_is_append_only(database_url: str) -> None:
    with e2vsearch.open(database_url, create=True) as collection:
        collection.set_policy(retention_days=30)
        collection.used_by("cli:kim").set_policy(channel_roles={0: "agent"})
        for change in (delete(AuditRow), update(AuditRow).values(actor="nobody"), text("DELETE FROM audit")):
            with pytest.raises(DatabaseError, match="append-only"), collection.catalog.writing() as connection:
                connection.execute(change)
        found = [(each.actor, each.action, each.request, each.results) for each in collection.audit()]
    assert found == [
        ("python", "policy", {"retention_days": 30}, ()),
        ("cli:kim", "policy", {"channel_roles": {"0": "agent"}}, ()),
    ]


def test_an_export_has_the_policy_and_an_import_takes_it_once(tmp_path: Path, run: Run) -> None:
    source, copy, other = (tmp_path / name for name in ("source", "copy", "other"))
    with e2vsearch.open(source, create=True, encoder="fake") as collection:
        collection.queue.pinned_encoder()
        collection.set_policy(**GIVEN)
        collection.export(tmp_path / "export")
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    assert Policy.of(manifest["policy"]) == Policy(**GIVEN)
    with e2vsearch.open(copy, create=True) as collection:
        assert not collection.import_(tmp_path / "export").other_policy
        assert collection.policy == Policy(**GIVEN)
    with e2vsearch.open(other, create=True) as collection:
        collection.set_policy(purpose="its own")
    done = run("import", tmp_path / "export", "--index", other)
    assert "the export's policy differs" in done.err
    with e2vsearch.open(other) as collection:
        assert collection.policy == Policy(purpose="its own")
    manifest["policy"] = {"retention_days": -1}
    (tmp_path / "export" / "manifest.json").write_text(json.dumps(manifest))
    with e2vsearch.open(tmp_path / "third", create=True) as collection, pytest.raises(ExportError, match="policy"):
        collection.import_(tmp_path / "export")


def test_the_policy_on_the_command_line(tmp_path: Path, run: Run) -> None:
    index = tmp_path / "calls"
    done = run(
        *("policy", "set", "--index", index, "--purpose", "find unhappy callers", "--retention-days", "90"),
        *("--channel-role", "0=agent,1=customer", "--employee-field", "agent", "--employee-field", "clerk", "--audit"),
    )
    expected = Policy(
        purpose="find unhappy callers",
        retention_days=90,
        channel_roles={0: "agent", 1: "customer"},
        employee_fields=("agent", "clerk"),
        audit=True,
    )
    assert done.rows == [expected.plain()]
    assert json.loads(run("policy", "--index", index, "-f", "json").out) == expected.plain()
    assert json.loads(run("status", "--index", index, "-f", "json").out)["policy"] == expected.plain()
    shown = run("status", "--index", index, "-f", "table").out
    assert "channels         0 agent, 1 customer" in shown
    assert "purpose          find unhappy callers" in shown
    run("policy", "set", "--index", index, "--retention-days", "0", "--no-audit", "--channel-role", "")
    assert run("policy", "--index", index).rows[0]["retention_days"] is None
    entries = run("audit", "--index", index).rows
    assert [each["action"] for each in entries] == ["policy", "policy"]
    assert entries[1]["request"] == {"retention_days": None, "audit": False, "channel_roles": {}}
    assert entries[0]["actor"].startswith("cli:")


def test_wrong_values_on_the_command_line(tmp_path: Path, run: Run) -> None:
    index = tmp_path / "calls"
    nothing = run("policy", "set", "--index", index)
    assert (nothing.code, "name what to set" in nothing.err) == (2, True)
    for wrong, said in (
        (("--channel-role", "0=boss"), "the role of channel 0 is customer or agent"),
        (("--analyse-agent",), "needs an employee_purpose"),
        (("--retention-days", "99999"), "from 1 to 36,500"),
    ):
        done = run("policy", "set", "--index", index, *wrong)
        assert (done.code, said in done.err, done.err.count("\n")) == (2, True, 1)
