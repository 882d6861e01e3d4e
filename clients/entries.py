"""The table of the entries of applications: their arguments and results, with the types of SQL."""

from __future__ import annotations

from dataclasses import dataclass

MESSAGES = "1 to 10,000 objects with the fields of send_sms, such as to, body and message_key"


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument, or a column of a result. `required` is true for an argument without a default."""

    name: str
    type: str
    meaning: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A SQL function. It returns one value of the type `returns`, or rows of `columns`, which a client calls `row`."""

    name: str
    does: str
    arguments: tuple[Argument, ...]
    returns: str | None = None
    row: str | None = None
    columns: tuple[Argument, ...] = ()


ENTRIES = (
    Entry(
        "queue_sms_retry",
        "Queue one message, once per key, inside the caller's transaction. Returns the message's id.",
        (
            Argument("to_number", "text", "the recipient in E.164, such as +14155550123", required=True),
            Argument("body", "text", "1 to 1,600 characters", required=True),
            Argument("message_key", "text", "the same key twice, in one business_id, is one message"),
            Argument("business_id", "text", "the business that the message is sent for"),
            Argument("kind", "text", "transactional, marketing, otp or emergency"),
            Argument("on_unknown", "text", "resend or hold"),
            Argument("time_zone", "text", "an IANA time zone of the recipient"),
            Argument("scheduled_for", "timestamptz", "not sent before this time"),
            Argument("expires_at", "timestamptz", "not sent after this time"),
            Argument("error_code", "integer", "Twilio's code of a first send that failed"),
            Argument("error_message", "text", "Twilio's text of that failure"),
            Argument("delays", "interval[]", "the waits after that failure"),
            Argument("sender", "text", "a number, a short code, a name or a Messaging Service"),
            Argument("batch", "text", "the name of the batch"),
            Argument("media_urls", "text[]", "1 to 10 https URLs"),
            Argument("content_sid", "text", "a content template, HX..."),
            Argument("content_variables", "jsonb", "the variables of the template"),
        ),
        returns="bigint",
    ),
    Entry(
        "queue_sms_retries",
        "Queue many messages. Returns a row for each place, from 1: the message, or the fault of a refused one.",
        (
            Argument("messages", "jsonb", MESSAGES, required=True),
            Argument("batch", "text", "the batch of all that name none"),
        ),
        row="Place",
        columns=(
            Argument("place", "integer"),
            Argument("message_id", "bigint"),
            Argument("status", "text"),
            Argument("fault", "text"),
        ),
    ),
    Entry(
        "cancel_sms_retry",
        "Cancel one message. Returns its status. A message that was sent, or is being sent, is not sent again.",
        (Argument("message_id", "bigint", "the id that the message was queued with", required=True),),
        returns="text",
    ),
    Entry(
        "cancel_sms_batch",
        "Cancel a batch. Returns how many messages were cancelled. No message of it is sent again.",
        (
            Argument("batch", "text", "the name of the batch", required=True),
            Argument("limit_count", "integer", "the most messages to cancel in one call"),
        ),
        returns="integer",
    ),
    Entry(
        "sms_batch",
        "Count the messages of a batch by status.",
        (Argument("batch", "text", "the name of the batch", required=True),),
        row="BatchCount",
        columns=(Argument("status", "text"), Argument("messages", "bigint")),
    ),
    Entry(
        "set_sms_consent",
        "Record a person's consent. Returns how many waiting messages failed by an opt-out.",
        (
            Argument("business_id", "text", "the business, or * for every business", required=True),
            Argument("phone_number", "text", "the person, in E.164", required=True),
            Argument("consent", "text", "opted_in, opted_out or unknown", required=True),
        ),
        returns="integer",
    ),
    Entry(
        "sms_message_state",
        "The state of one message; no row for an id that does not exist.",
        (Argument("message_id", "bigint", "the id that the message was queued with", required=True),),
        row="MessageState",
        columns=(
            Argument("message_id", "bigint"),
            Argument("status", "text"),
            Argument("provider_sid", "text"),
            Argument("next_attempt_at", "timestamptz"),
            Argument("error_code", "integer"),
        ),
    ),
    Entry(
        "take_sms_events",
        "Lease the oldest events. An event that done_sms_events has not confirmed comes again after the lease.",
        (
            Argument("limit_count", "integer", "the most events"),
            Argument("lease", "interval", "how long no other consumer gets them"),
        ),
        row="Event",
        columns=(
            Argument("id", "bigint"),
            Argument("type", "text"),
            Argument("at", "timestamptz"),
            Argument("message_id", "bigint"),
            Argument("message_key", "text"),
            Argument("business_id", "text"),
            Argument("batch", "text"),
            Argument("error_code", "integer"),
            Argument("reason", "text"),
            Argument("detail", "jsonb"),
        ),
    ),
    Entry(
        "done_sms_events",
        "Confirm events: they do not come again. Returns the number of events that were waiting.",
        (Argument("ids", "bigint[]", "the ids of events", required=True),),
        returns="integer",
    ),
)
