"""The rights inside the schema. PUBLIC has none, applications have a few entries, and the runtime role has its own.

The runtime role is the role of the worker, the webhook and all other functions but `migrate`, where the stack has a
second database secret. It changes no table and reads a few columns. It may execute the functions that Python calls, and
each of them runs with the rights of its owner. So it adds to the log of actions by `note_sms_action`, and can change no
row of it.
Without a runtime role the owner calls the functions, and they run with the rights of their caller.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import errors, sql

# Their files declare each of them as `security definer`.
APPLICATION_ENTRIES = (
    "queue_sms_retry",
    "queue_sms_retries",
    "cancel_sms_retry",
    "cancel_sms_batch",
    "sms_batch",
    "set_sms_consent",
    "sms_message_state",
    "take_sms_events",
    "done_sms_events",
)

# The functions that the package calls, which a test reads from its code.
RUNTIME_ENTRIES = (
    "cancel_sms_batch",
    "cancel_sms_retry",
    "claim_due_sms_retries",
    "claim_one_sms",
    "claim_sms",
    "claim_sms_now",
    "cleanup_sms_events",
    "cleanup_sms_retries",
    "close_sms_hold",
    "count_due_sms",
    "decide_unknown_sms",
    "done_sms_events",
    "doubt_sms_since",
    "ended_sms",
    "erase_sms_bodies",
    "erase_sms_recipient",
    "export_sms_recipient",
    "failed_sms_of_reason_since",
    "failed_sms_since",
    "finish_sms_retries",
    "fold_sms_usage",
    "found_sms",
    "held_sms",
    "known_sms_reports",
    "listed_sms",
    "log_sent_sms",
    "note_silent_sms_asked",
    "note_sms_action",
    "open_sms_hold",
    "open_sms_hold_by_receipt",
    "opt_out_first_sms_refuser",
    "queue_and_claim_one_sms",
    "queue_and_claim_sms",
    "queue_sms_retries",
    "queue_sms_retry",
    "record_sms_delivery",
    "record_sms_receipt",
    "record_sms_reply",
    "recover_stuck_sms_retries",
    "remove_old_sms",
    "requeue_failed_sms",
    "requeue_sms_of_reason",
    "retry_sms_now",
    "set_sms_budget",
    "set_sms_consent",
    "set_sms_sender",
    "show_sms",
    "silent_sms_due",
    "silent_sms_to_ask",
    "sms_actions_done",
    "sms_batch",
    "sms_budgets_now",
    "sms_consents_of",
    "sms_is_being_sent",
    "sms_known_before",
    "sms_last_day",
    "sms_list_control",
    "sms_message_details",
    "sms_message_origin",
    "sms_message_parts",
    "sms_message_state",
    "sms_message_story",
    "sms_named_senders",
    "sms_number_of",
    "sms_of_batch",
    "sms_of_same_person",
    "sms_open_holds",
    "sms_origin_of_receipt",
    "sms_overrides",
    "sms_policy_overrides",
    "sms_receipt_is_known",
    "sms_retry_health",
    "sms_segments_by",
    "sms_senders_at_pace",
    "sms_senders_known",
    "sms_usage_by",
    "sms_waiting_for",
    "sms_waiting_since",
    "stuck_sms",
    "take_sms_events",
    "take_sms_reply",
    "unknown_sms_due",
    "unknown_sms_to_ask",
    "unowned_sms_sids",
    "waiting_sms",
    "waiting_sms_events",
)
# The columns that the doctor reads.
RUNTIME_COLUMNS = {"schema_migrations": ("name",), "sms_senders": ("sender", "account")}

# The functions of these names that this transaction has written: an overload of another program keeps its rights.
SIGNATURES = """
select oid::regprocedure::text from pg_proc
where pronamespace = 'sms_retry'::regnamespace and proname = any (%s) and prokind = 'f'
    and xmin = pg_current_xact_id()::xid
order by 1
"""

# A superuser is a member of every role. A member of `pg_write_all_data` may change every table.
MAY_CHANGE_TABLES = """
select current_user::text, pg_has_role(%(role)s, current_user, 'member') or exists (
    select from pg_class where relnamespace = 'sms_retry'::regnamespace and relkind = 'r'
        and has_table_privilege(%(role)s, oid, 'insert, update, delete, truncate'))
"""


class WrongRole(Exception):
    """The message names the role, the parameter and the correction."""


def grant(connection: psycopg.Connection, applications: Sequence[str], runtime_role: str | None) -> None:
    """Grant each role its entries. The functions are as this transaction has just written them."""
    # Before the first change of rights, because a change writes the function of another program too.
    for_applications, for_runtime = (
        _signatures(connection, APPLICATION_ENTRIES),
        _signatures(connection, RUNTIME_ENTRIES),
    )
    connection.execute("revoke execute on all functions in schema sms_retry from public")
    for role in applications:
        _grant(connection, role, for_applications)
    if runtime_role:
        _refuse_powerful(connection, runtime_role)
        for signature in for_runtime:
            connection.execute(sql.SQL("alter function {} security definer").format(sql.SQL(signature)))
        _grant(connection, runtime_role, for_runtime)
        for table, columns in RUNTIME_COLUMNS.items():
            allowed = sql.SQL(f"grant select ({', '.join(columns)}) on sms_retry.{table} to {{}}")
            connection.execute(allowed.format(sql.Identifier(runtime_role)))


def _signatures(connection: psycopg.Connection, entries: Sequence[str]) -> list[str]:
    return [signature for (signature,) in connection.execute(SIGNATURES, [list(entries)])]


def _grant(connection: psycopg.Connection, role: str, signatures: Sequence[str]) -> None:
    name, functions = sql.Identifier(role), sql.SQL(", ").join(map(sql.SQL, signatures))
    try:
        connection.execute(sql.SQL("grant usage on schema sms_retry to {}").format(name))
    except errors.UndefinedObject:
        raise WrongRole(f"the role {name.as_string()} of APPLICATION_ROLES does not exist: create it") from None
    connection.execute(sql.SQL("grant execute on function {} to {}").format(functions, name))


def _refuse_powerful(connection: psycopg.Connection, role: str) -> None:
    [(owner, is_powerful)] = connection.execute(MAY_CHANGE_TABLES, {"role": role}).fetchall()
    if is_powerful:
        raise WrongRole(
            f"{role} may change the tables of {owner} in the schema sms_retry: give DatabaseSecretArn or DatabaseUrl a"
            f" role that is no superuser, no member of {owner} and has no right to these tables, or leave"
            " MigrationSecretArn out"
        )
