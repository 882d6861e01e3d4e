"""The senders of a week: three businesses have their own, and the others have the sender of the deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from local.stack import ENVIRONMENT

# A worker looks each second for so long in each minute: `LingerSeconds` of the template.
LINGERS = timedelta(seconds=50)


@dataclass(frozen=True, slots=True)
class Sender:
    """`business_id` is the business whose default it is; `pace` is in segments a second, None without a pace."""

    name: str
    business_id: str | None
    pace: float | None


SHOP = Sender("+15005550101", "shop", 3)
CLINIC = Sender("Clinic", "clinic", None)
# A Messaging Service. The messages of the gym name it too.
NEWS = Sender("MG" + "5" * 32, "news", 2)
OF_DEPLOYMENT = Sender(ENVIRONMENT["TWILIO_SENDER"], None, None)
OWN = (SHOP, CLINIC, NEWS)
BY_NAME: Mapping[str, Sender] = {sender.name: sender for sender in (*OWN, OF_DEPLOYMENT)}
BY_BUSINESS: Mapping[str, Sender] = {sender.business_id: sender for sender in OWN if sender.business_id}
