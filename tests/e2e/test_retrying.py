"""Ticks: a temporary failure is sent again once, and an unknown message is asked about."""

from __future__ import annotations

from local.stack import Stack
from local.twilio.stand_in import Accept, BadAnswer, Callbacks, Refuse, Reset, always
from tests.e2e.messages import message, number, posts_to, queue, statuses

LOST = Callbacks(lost=1)


def test_each_of_forty_messages_with_a_failed_first_send_is_accepted_exactly_once(stack: Stack) -> None:
    for n in range(13):
        queue(stack, n)
    stack.twilio.close()
    stack.let_minutes_pass()
    stack.twilio.start()
    for n in range(13, 40):
        stack.twilio.plan(number(n), Refuse(503, 20503) if n % 2 else Refuse(429, 20429), Accept())
        queue(stack, n)
    assert len(stack.twilio.posts()) == 0

    stack.let_minutes_pass(8)

    assert statuses(stack) == {"delivered": 40}
    assert len(stack.twilio.accepted()) == 40
    assert set(stack.twilio.times_accepted().values()) == {1}
    assert stack.db.execute("select sum(retry_count) from sms_retry.sms_messages").fetchone() == (0,)


def test_a_worker_returns_counts_that_add_up(stack: Stack) -> None:
    stack.twilio.plan(number(0), Accept())
    stack.twilio.plan(number(1), Refuse(400, 21211))
    stack.twilio.plan(number(2), Refuse(400, 30021))
    stack.twilio.plan(number(3), BadAnswer(502))
    for n in range(5):
        queue(stack, n)
    opt_out = "insert into sms_retry.sms_recipients (business_id, phone_number, consent) values ('*', %s, 'opted_out')"
    stack.db.execute(opt_out, [number(4)])

    counts = stack.invoke("process_retries")

    assert counts.pop("duration_ms") >= 0
    assert counts == {
        "recovered": 0,
        "processed": 5,
        "success": 1,
        "failed": 2,
        "rescheduled": 1,
        "deferred": 0,
        "unknown": 1,
    }


def test_a_message_is_tried_four_times_and_then_fails(stack: Stack) -> None:
    stack.twilio.behave(default=always(Refuse(400, 30021)))
    stack.invoke("send_sms", message())

    stack.let_minutes_pass(25)

    assert posts_to(stack, 0) == 4
    assert stack.invoke("retry_sms", {"message_id": 1})["error_code"] == 30021
    assert statuses(stack) == {"failed": 1}


def test_an_outage_of_an_hour_spends_no_retry_and_then_every_message_is_sent(stack: Stack) -> None:
    for n in range(5):
        queue(stack, n)
    stack.twilio.behave(down=True)
    stack.let_minutes_pass(60)
    stack.twilio.behave(down=False)

    stack.let_minutes_pass(10)

    assert statuses(stack) == {"delivered": 5}
    assert stack.db.execute("select max(retry_count) from sms_retry.sms_messages").fetchone() == (0,)


def test_an_unknown_message_in_twilios_list_is_not_sent_again(stack: Stack) -> None:
    stack.twilio.plan(number(0), Reset(Accept(callbacks=LOST, list_lag=300)))
    assert stack.invoke("send_sms", message())["status"] == "unknown"

    stack.let_minutes_pass(45)

    assert statuses(stack) == {"delivered": 1}
    assert posts_to(stack, 0) == 1


def test_a_delivery_receipt_settles_an_unknown_message(stack: Stack) -> None:
    stack.twilio.plan(number(0), BadAnswer(500))
    assert stack.invoke("send_sms", message())["status"] == "unknown"

    stack.twilio.deliver_callbacks()

    assert statuses(stack) == {"delivered": 1}


def test_an_unknown_message_that_twilio_does_not_list_is_sent_again_after_30_minutes(stack: Stack) -> None:
    stack.twilio.plan(number(0), Reset(accepted=None), Accept())
    stack.invoke("send_sms", message())

    stack.let_minutes_pass(29)
    assert (posts_to(stack, 0), statuses(stack)) == (1, {"unknown": 1})

    stack.let_minutes_pass(10)
    assert (posts_to(stack, 0), statuses(stack)) == (2, {"delivered": 1})


def test_an_unknown_message_with_on_unknown_hold_is_parked(stack: Stack) -> None:
    stack.twilio.plan(number(0), Reset(accepted=None))
    stack.invoke("send_sms", message(on_unknown="hold"))

    stack.let_minutes_pass(45)

    assert (posts_to(stack, 0), statuses(stack)) == (1, {"unknown": 1})


def test_the_claim_of_a_dead_worker_is_recovered_and_asked_about(stack: Stack) -> None:
    queue(stack)
    stack.db.execute("select sms_retry.claim_due_sms_retries(1)")

    returned = stack.let_minutes_pass(45)

    assert sum(counts["recovered"] for function, counts in returned if function == "process_retries") == 1
    assert sum(counts["released"] for function, counts in returned if function == "reconcile") == 1
    assert (posts_to(stack, 0), statuses(stack)) == (1, {"delivered": 1})


def test_a_sent_message_without_a_receipt_is_asked_about_after_an_hour(stack: Stack) -> None:
    stack.twilio.plan(number(0), Accept(callbacks=LOST))
    stack.invoke("send_sms", message())

    stack.let_minutes_pass(59)
    assert statuses(stack) == {"sent": 1}
    stack.let_minutes_pass(7)

    assert statuses(stack) == {"delivered": 1}
