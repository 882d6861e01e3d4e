"""The statuses of a queue row and the steps that may change them.

The test of the state machine holds the code to `MAY`, and `make docs` writes it into docs/how-it-works.md.
"""

from __future__ import annotations

# A receipt may come before its acceptance is written down. The acceptance then settles that receipt too.
ACCEPTED = (
    "processing>completed unknown>completed pending>completed processing>pending unknown>pending processing>failed"
    " unknown>failed pending>failed processing>cancelled unknown>cancelled pending>cancelled processing>expired"
    " unknown>expired pending>expired"
)

# The transitions that each step may make. `new` and `gone` are a row that was not there before, and is not there after.
MAY = {
    "queue": "new>pending new>failed new>expired",
    "hold": "",
    "claim": "pending>processing",
    "recover": "processing>unknown processing>completed",
    "unknown": "processing>unknown processing>completed",
    "accepted": ACCEPTED,
    "receipt taken": ACCEPTED,
    "refused": "processing>pending processing>failed processing>expired processing>completed"
    " unknown>pending unknown>failed unknown>expired unknown>completed",
    "opted_out": "processing>failed unknown>failed processing>completed unknown>completed pending>failed",
    # A message that was called off fails when its worker does not send it now. So does an unknown message whose text
    # was erased after its end, when its worker reports at last.
    "deferred": "processing>pending unknown>pending processing>expired unknown>expired processing>completed"
    " processing>failed unknown>failed",
    "expired": "processing>expired unknown>expired processing>completed",
    "not_sent": "processing>failed unknown>failed processing>completed",
    "receipt delivered": "processing>completed unknown>completed pending>completed failed>completed"
    " cancelled>completed expired>completed",
    # A failed message is judged again when a receipt tells the code that an earlier one lacked.
    "receipt failed": "failed>pending failed>expired processing>pending unknown>pending completed>pending"
    " processing>failed unknown>failed completed>failed pending>failed processing>expired unknown>expired"
    " completed>expired pending>expired completed>unknown"
    " processing>completed unknown>completed pending>completed",
    "receipt canceled": "processing>cancelled unknown>cancelled completed>cancelled pending>cancelled"
    " processing>completed unknown>completed pending>completed",
    "cancel": "pending>cancelled",
    "retry": "failed>pending unknown>pending",
    "consent": "pending>failed",
    "release": "unknown>pending",
    "doubt": "pending>unknown processing>unknown",
    "cleanup": "completed>gone failed>gone cancelled>gone expired>gone unknown>gone",
    "erase": "",
}

# Each step in words, for the page. A step that changes no status is left out.
STEPS = {
    "queue": "an application queues the message (`queue_sms_retry`)",
    "claim": "a worker claims the row (`claim_sms`, `claim_one_sms`)",
    "recover": "recovery ends the claim of a dead worker (`recover_stuck_sms_retries`)",
    "accepted": "a worker or `reconcile` reports that Twilio accepted the message",
    "refused": "a worker reports that Twilio refused the message",
    "unknown": "a worker reports an answer that cannot be trusted",
    "deferred": "a worker does not send the message now: a hold, closed hours, a limit or an old claim",
    "expired": "a worker finds that the message has expired",
    "not_sent": "a worker finds an impossible number",
    "opted_out": "a worker finds that the person opted out, or Twilio says so",
    "receipt taken": "a delivery receipt with the status `queued`, `sent` or another one on the way",
    "receipt delivered": "a delivery receipt with the status `delivered`, `read` or `partially_delivered`",
    "receipt failed": "a delivery receipt with the status `undelivered` or `failed`",
    "receipt canceled": "a delivery receipt with the status `canceled`",
    "release": "Twilio's list does not have the message after 30 minutes (`decide_unknown_sms`)",
    "doubt": "the database was restored to an earlier time (`doubt_sms_since`)",
    "retry": "a person asks for one more try (`retry_sms_now`, `requeue_failed_sms`)",
    "cancel": "a person cancels the message (`cancel_sms_retry`)",
    "consent": "the recipient opts out (`set_sms_consent`)",
    "cleanup": "the hourly clean-up removes the row seven days after its end (`cleanup_sms_retries`)",
}
