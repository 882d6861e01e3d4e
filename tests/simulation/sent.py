"""The POSTs of a week, each with our row and with the text of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from local.twilio.messages import segments
from local.twilio.stand_in import Post, Refuse
from tests.simulation.plan import Text
from tests.simulation.week import Week


@dataclass(frozen=True)
class Sent:
    """One POST of a message: our row, the planned text, and the simulated instant."""

    message: Any
    text: Text
    post: Post
    at: datetime

    @property
    def last_moment(self) -> datetime:
        """The latest instant at which Twilio may deliver it."""
        return self.at + timedelta(seconds=int(self.post.form["ValidityPeriod"]))

    @property
    def code(self) -> int | None:
        """Twilio's code, if it refused the POST."""
        return self.post.step.code if isinstance(self.post.step, Refuse) else None

    @property
    def sender(self) -> str:
        return self.post.form.get("From") or self.post.form["MessagingServiceSid"]

    @property
    def segments(self) -> int:
        """Counted by the stand-in, not by our SQL."""
        return segments(self.text.body)


def sent_in(week: Week) -> list[Sent]:
    texts = {(text.person.number, text.body): text for text in week.plan.texts}
    messages = {(m.to_number, m.body): m for m in week.messages}
    return [
        Sent(messages[key], texts[key], post, datetime.fromtimestamp(post.at, UTC))
        for post in week.posts
        if (key := (post.to, post.form["Body"])) in texts
    ]
