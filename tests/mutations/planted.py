"""The planted bugs, and the tests that must fail for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = "layers/sms_retry/python/sms_retry"
SQL = "sql/functions"
TESTS = "tests/integration"


@dataclass(frozen=True)
class Mutation:
    """`old`, found exactly once in `file`, becomes `new`; `noticed_by` are the test files of which one must fail."""

    bug: str
    file: str
    old: str
    new: str
    noticed_by: tuple[str, ...]

    def can_be_planted(self, root: Path) -> bool:
        return (root / self.file).read_text().count(self.old) == 1


MUTATIONS = [
    Mutation(
        "a claim waits for rows that another worker has locked",
        f"{SQL}/claim/claim_due_sms_retries.sql",
        "limit allowed - (select count(*) from turns)\n        for update skip locked",
        "limit allowed - (select count(*) from turns)\n        for update",
        (f"{TESTS}/test_claim.py",),
    ),
    Mutation(
        "a claim takes more rows than its limit",
        f"{SQL}/claim/claim_due_sms_retries.sql",
        "let_through_sms_holds(coalesce(limit_count, 0))",
        "let_through_sms_holds(1000000)",
        (f"{TESTS}/test_claim.py",),
    ),
    Mutation(
        "a claim takes rows that are not due yet",
        f"{SQL}/claim/claim_due_sms_retries.sql",
        "where status = 'pending' and scheduled_for <= now() and id not in",
        "where status = 'pending' and id not in",
        (f"{TESTS}/test_claim.py",),
    ),
    Mutation(
        "a claim does not raise the attempt",
        f"{SQL}/claim/take_sms_claims.sql",
        "attempt = q.attempt + 1",
        "attempt = greatest(q.attempt, 1)",
        (f"{TESTS}/test_claim.py",),
    ),
    Mutation(
        "an opt-in to one business overrides an opt-out of all",
        f"{SQL}/people/sms_consent.sql",
        "case when everybodys = 'opted_out' then 'opted_out'",
        "case when false then 'opted_out'",
        (f"{TESTS}/test_claim.py",),
    ),
    Mutation(
        "an expired hold lets every message through instead of one probe",
        f"{SQL}/claim/take_sms_claims.sql",
        "set until = now() + h.wait, probe_id",
        "set until = h.until, probe_id",
        (f"{TESTS}/test_holds.py",),
    ),
    Mutation(
        "a hold on the account lets messages through",
        f"{SQL}/claim/let_through_sms_holds.sql",
        "then least(wanted, 1) else 0 end",
        "then least(wanted, 1) else wanted end",
        (f"{TESTS}/test_holds.py",),
    ),
    Mutation(
        "a report with an old ticket changes its row",
        f"{SQL}/finish/sms_report_is_believed.sql",
        "when attempt = latest and queue_status = 'processing' then true",
        "when queue_status = 'processing' then true",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "a report for a settled claim changes its row",
        f"{SQL}/finish/sms_report_is_believed.sql",
        "when attempt = latest and queue_status = 'processing' then true",
        "when attempt = latest then true",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "one stale ticket aborts the whole batch",
        f"{SQL}/finish/settle_sms_reports.sql",
        "    order by t.id\n    for update of q;\n",
        "    order by t.id\n    for update of q;\n"
        "    assert (select count(*) = cardinality(ids) from unnest(ids, attempts) t (id, n)\n"
        "        join sms_retry_queue q on q.id = t.id and q.attempt = t.n);\n",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "an acceptance with an old ticket changes its row",
        f"{SQL}/finish/accept_sms_claims.sql",
        " and q.attempt = t.attempt and q.claimed_at is not null",
        " and q.claimed_at is not null",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "an acceptance for a settled claim changes its row",
        f"{SQL}/finish/accept_sms_claims.sql",
        " and q.attempt = t.attempt and q.claimed_at is not null",
        " and q.attempt = t.attempt",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "an acceptance sets a delivered message back to sent",
        f"{SQL}/finish/accept_sms_claims.sql",
        "case when m.status = 'delivered' then m.status else 'sent' end",
        "'sent'",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "an accepted probe does not clear its hold",
        f"{SQL}/finish/accept_sms_claims.sql",
        "where h.probe_id = q.id and h.probe_attempt = q.attempt",
        "where h.probe_id = q.id and h.probe_attempt <> q.attempt",
        (f"{TESTS}/test_holds.py",),
    ),
    Mutation(
        "a message is retried without a limit",
        f"{SQL}/finish/sms_next_try.sql",
        "when retry_count < max_retries then now() + delays[retry_count + 1]",
        "else now() + delays[least(retry_count + 1, cardinality(delays))]",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "a delivered message is sent again when its next attempt fails",
        f"{SQL}/finish/sms_status_after.sql",
        "when outcome in ('accepted', 'delivered') or message_status = 'delivered' then 'completed'",
        "when outcome in ('accepted', 'delivered') then 'completed'",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "an acceptance does not stop the retry that waits",
        f"{SQL}/finish/sms_report_is_believed.sql",
        "queue_status = 'pending' then not is_accepted",
        "queue_status = 'pending' then false",
        (f"{TESTS}/test_unknown.py",),
    ),
    Mutation(
        "a recovered claim is sent again at once",
        f"{SQL}/claim/recover_stuck_sms_retries.sql",
        "outcomes => array_fill('unknown'::text, array[cardinality(ids)]),",
        "outcomes => array_fill('deferred'::text, array[cardinality(ids)]),"
        " delays => array_fill('{0s}'::text, array[cardinality(ids)]),",
        (f"{TESTS}/test_unknown.py",),
    ),
    Mutation(
        "a claim is recovered while its worker may still be sending",
        f"{SQL}/claim/recover_stuck_sms_retries.sql",
        "claimed_at < now() - make_interval(mins => stale_minutes)",
        "claimed_at < now()",
        (f"{TESTS}/test_unknown.py",),
    ),
    Mutation(
        "an unknown message is sent again before 30 minutes",
        f"{SQL}/reconcile/release_unknown_sms.sql",
        "interval '30 minutes'",
        "interval '20 minutes'",
        (f"{TESTS}/test_unknown.py",),
    ),
    Mutation(
        "an unknown message is sent again with no retry left",
        f"{SQL}/reconcile/release_unknown_sms.sql",
        "q.retry_count < q.max_retries and",
        "q.retry_count < 99 and",
        (f"{TESTS}/test_unknown.py",),
    ),
    Mutation(
        "a cancellation misses an unknown message that becomes pending at the same time",
        f"{SQL}/operate/cancel_sms_retry.sql",
        "where q.message_id = cancel_sms_retry.message_id for update;",
        "where q.message_id = cancel_sms_retry.message_id;",
        (f"{TESTS}/test_isolation.py",),
    ),
    Mutation(
        "a retry by hand resends an unknown message without force",
        f"{SQL}/operate/retry_sms_now.sql",
        "q.status = 'unknown' and force",
        "q.status = 'unknown'",
        (f"{TESTS}/test_state_machine.py",),
    ),
    Mutation(
        "a receipt that arrived before its acceptance is never applied",
        f"{SQL}/receipt/record_sms_delivery.sql",
        "    if is_settled then\n",
        "    if not is_news then return 'repeated'; end if;\n    if is_settled then\n",
        (f"{TESTS}/test_isolation.py",),
    ),
    Mutation(
        "a receipt of delivery does not cancel the retry that waits",
        f"{SQL}/receipt/record_sms_delivery.sql",
        " and q.status = 'completed'\n",
        "\n",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "a receipt does not wait for another transaction that changes its row",
        f"{SQL}/receipt/record_sms_delivery.sql",
        "        for update\n",
        "",
        (f"{TESTS}/test_isolation.py",),
    ),
    Mutation(
        "a receipt does not look again for an acceptance that committed meanwhile",
        f"{SQL}/receipt/record_sms_delivery.sql",
        "from sms_attempts a where a.message_sid = record_sms_delivery.message_sid;\n        end if;\n",
        "from sms_attempts a where false;\n        end if;\n",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "the same message key creates two messages",
        "sql/migrations/0001_tables.sql",
        "create unique index sms_messages_key on sms_retry.sms_messages (business_id, message_key)",
        "create unique index sms_messages_key on sms_retry.sms_messages (business_id, message_key, id)",
        (f"{TESTS}/test_entry.py",),
    ),
    Mutation(
        "a read timeout counts as not sent",
        f"{PACKAGE}/twilio.py",
        "            except AnswerLost as error:\n                return Unknown(str(error))",
        "            except AnswerLost as error:\n                return Unreached(str(error))",
        (f"{TESTS}/test_worker.py",),
    ),
    Mutation(
        "a failed connection counts as unknown",
        f"{PACKAGE}/twilio.py",
        "                return Unreached(str(error))",
        "                return Unknown(str(error))",
        (f"{TESTS}/test_worker.py",),
    ),
    Mutation(
        "a 503 that is not Twilio's counts as refused",
        f"{PACKAGE}/twilio.py",
        "(status == 503 and code == 20503)",
        "status == 503",
        (f"{TESTS}/test_worker.py",),
    ),
    Mutation(
        "a 2xx without a SID counts as accepted",
        f"{PACKAGE}/twilio.py",
        "        if isinstance(sid, str) and sid:",
        "        if True:",
        (f"{TESTS}/test_worker.py",),
    ),
    Mutation(
        "a callback without a valid signature is accepted",
        f"{PACKAGE}/callback.py",
        "    return any(RequestValidator(token).validate(url, fields, signature) for token in tokens)",
        "    return True or any(RequestValidator(token).validate(url, fields, signature) for token in tokens)",
        ("tests/unit/test_callback.py",),
    ),
    Mutation(
        "somebody who refused is texted",
        f"{PACKAGE}/attempt.py",
        'if claim.consent == "opted_out" or (',
        "if (",
        ("tests/unit/test_attempt.py",),
    ),
    Mutation(
        "somebody is texted at night",
        f"{PACKAGE}/attempt.py",
        "    if claim.kind in ALWAYS_OPEN:",
        "    if True:",
        ("tests/unit/test_attempt.py",),
    ),
    Mutation(
        "a message is sent after it has expired",
        f"{PACKAGE}/attempt.py",
        "    if claim.expires_at - now < SHORTEST_VALIDITY:",
        "    if False:",
        ("tests/unit/test_attempt.py",),
    ),
    Mutation(
        "a worker sends although no time is left",
        f"{PACKAGE}/attempt.py",
        "self._seconds_left() < SLOWEST_SEND:",
        "False:",
        (f"{TESTS}/test_worker.py",),
    ),
    Mutation(
        "a claim is repeated after its answer was lost",
        f"{PACKAGE}/store.py",
        'return self._once(f"select * from sms_retry.{function}({places})", given)',
        'return self._again(f"select * from sms_retry.{function}({places})", given)',
        (f"{TESTS}/test_database_away.py",),
    ),
    Mutation(
        "a report is lost with its connection",
        f"{PACKAGE}/store.py",
        'rows = self._again(f"select id, attempt, status from sms_retry.finish_sms_retries',
        'rows = self._once(f"select id, attempt, status from sms_retry.finish_sms_retries',
        (f"{TESTS}/test_database_away.py",),
    ),
    Mutation(
        "an idle connection is used without a check",
        f"{PACKAGE}/connection.py",
        "time.time() - self._used_at > IDLE",
        "False",
        (f"{TESTS}/test_database_away.py",),
    ),
    Mutation(
        "each failed login has the secret read again",
        f"{PACKAGE}/secrets.py",
        "time.time() - self._read_early_at < PAUSE",
        "False",
        ("tests/e2e/test_database_secret.py",),
    ),
    Mutation(
        "a listed message of another attempt settles an unknown message",
        f"{PACKAGE}/reconcile.py",
        "if message.sid in free",
        "if True",
        (f"{TESTS}/test_reconcile.py",),
    ),
    Mutation(
        "any text to the same person settles an unknown message",
        f"{PACKAGE}/reconcile.py",
        "if message.body == row.body\n            and",
        "if",
        (f"{TESTS}/test_reconcile.py",),
    ),
    Mutation(
        "a late failure resends a message with an erased text",
        f"{SQL}/finish/settle_sms_reports.sql",
        "resend_forbidden => q.body_erased or sms_resend_forbidden(q.reason)",
        "resend_forbidden => sms_resend_forbidden(q.reason)",
        (f"{TESTS}/test_erasing.py",),
    ),
    Mutation(
        "a late failure resends a message that was called off",
        f"{SQL}/finish/settle_sms_reports.sql",
        "resend_forbidden => q.body_erased or sms_resend_forbidden(q.reason)",
        "resend_forbidden => q.body_erased",
        (f"{TESTS}/test_state_rules.py",),
    ),
    Mutation(
        "an acceptance forgets that its message was called off",
        f"{SQL}/finish/accept_sms_claims.sql",
        "reason = case when sms_resend_forbidden(q.reason) then q.reason end",
        "reason = null",
        (f"{TESTS}/test_state_rules.py",),
    ),
    Mutation(
        "an unknown message is sent again after its person opted out",
        f"{SQL}/reconcile/release_unknown_sms.sql",
        "m.on_unknown = 'resend' and not sms_resend_forbidden(q.reason)\n                and",
        "m.on_unknown = 'resend' and",
        (f"{TESTS}/test_state_rules.py",),
    ),
    Mutation(
        "an erasure removes the opt-out of a person",
        f"{SQL}/people/erase_sms_recipient.sql",
        " and r.consent <> 'opted_out'",
        "",
        (f"{TESTS}/test_operate.py",),
    ),
    Mutation(
        "an erasure removes a message while its worker is sending it",
        f"{SQL}/people/erase_sms_recipient.sql",
        " and q.status <> 'processing')",
        ")",
        (f"{TESTS}/test_operate.py",),
    ),
    Mutation(
        "the health check counts every waiting row",
        f"{SQL}/look/sms_retry_health.sql",
        " limit 10001",
        "",
        (f"{TESTS}/test_health.py",),
    ),
    Mutation(
        "a form from another site is accepted",
        f"{PACKAGE}/console/csrf.py",
        'return site in ("same-origin", "none")',
        "return True",
        ("tests/e2e/test_console.py",),
    ),
    Mutation(
        "the markup in a text is not escaped",
        f"{PACKAGE}/console/view.py",
        "autoescape=True",
        "autoescape=False",
        ("tests/e2e/test_console.py",),
    ),
    Mutation(
        "the console answers requests without an authenticated actor",
        f"{PACKAGE}/console/web.py",
        "if asked.actor is None:",
        "if False:",
        ("tests/e2e/test_console.py",),
    ),
    Mutation(
        "a backlog calls no more workers",
        f"{PACKAGE}/worker.py",
        "        call_workers(more)",
        "        pass",
        ("tests/e2e/test_scale_out.py",),
    ),
    Mutation(
        "a receipt that settles its ticket first makes the worker's report stale",
        f"{PACKAGE}/worker.py",
        "    written |= store.known(",
        "    store.known(",
        (f"{TESTS}/test_worker.py",),
    ),
    Mutation(
        "a report with another SID counts as known",
        f"{SQL}/finish/known_sms_reports.sql",
        " and a.message_sid is not distinct from t.sid",
        "",
        (f"{TESTS}/test_receipts.py",),
    ),
    Mutation(
        "a deployment continues after a failed migration",
        f"{PACKAGE}/deployment.py",
        '_answer(event, "FAILED", reason[:LONGEST_REASON])',
        '_answer(event, "SUCCESS", reason[:LONGEST_REASON])',
        ("tests/e2e/test_migrate_at_deploy.py",),
    ),
    Mutation(
        "RDS is believed with any certificate",
        f"{PACKAGE}/conninfo.py",
        '"sslmode": "verify-full"',
        '"sslmode": "require"',
        ("tests/unit/test_conninfo.py",),
    ),
    Mutation(
        "the day that observes a holiday is open",
        f"{PACKAGE}/holidays.py",
        "held.append(day + DAY)",
        "pass",
        ("tests/unit/test_hours.py",),
    ),
    Mutation(
        "an unknown exchange has one zone of its area code",
        f"{PACKAGE}/zones.py",
        "names = _below(area_code) or names",
        "pass",
        ("tests/unit/test_zones.py",),
    ),
    Mutation(
        "an operator's line of hours is ignored",
        f"{PACKAGE}/hours.py",
        "for rule in hours_rules()} | own)",
        "for rule in hours_rules()} | {})",
        ("tests/unit/test_hours.py",),
    ),
    Mutation(
        "hours are computed in the zone of the database",
        f"{PACKAGE}/hours.py",
        "now = at = now.astimezone(UTC)",
        "at = now",
        ("tests/unit/test_hours.py",),
    ),
    Mutation(
        "a repeated event is refused for its hours",
        f"{PACKAGE}/entry.py",
        "known.message_id is not None or ",
        "",
        (f"{TESTS}/test_sending_hours.py",),
    ),
]
