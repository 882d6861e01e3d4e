"""Which replies opt a person out, which take that back, and which do neither."""

from __future__ import annotations

import csv
from importlib.resources import files

import pytest

from sms_retry import replies

OPT_OUTS = """
STOP|stop|Stop|  stop \n|STOP.|Stop!|stop...|“STOP”|"stop"|'stop'|\
(stop)|STOP\u200b|\ufeffSTOP|ST\u00adOP|ＳＴＯＰ|\
STOP \U0001f6d1|\U0001f6d1 STOP \U0001f6d1|S T O P|STOP ALL|stopall|\
Stop. Thank you|Stop, thanks!|please stop|Please STOP.|Stop please|\
Stop texting me|STOP TEXTING ME!!!|stop it|UNSUBSCRIBE.|unsubscribe|Cancel|cancel!|END.|end|Quit|quit.|Revoke|revoke!|\
opt out|OPT-OUT|optout|Opt–out|opt\u00a0out|OPT_OUT|arret|ARRET|ARRETE|ARRÊT|arrêt|arre\u0302t|Arrête!|ALTO|\
¡Alto!|baja|parar|PARE|cancelar|sair|SAIR!|descadastrar|Não quero mais|No más mensajes|Don't text me|don’t contact me
"""
NEITHER = """
Stop by at 5?|don't stop|Don't stop believing|end of month works|the end|cancel my table for two|Can you stop by?|\
nonstop|I quit my job|HELP|info|Yes please|yes, see you|started|No|OK|1|\U0001f44d|weekend|Where do I opt in?|bus stop
"""


@pytest.mark.parametrize("body", [text.strip("\n") for text in OPT_OUTS.split("|")])
def test_a_reply_that_asks_to_stop_opts_out(body: str) -> None:
    assert replies.wish(body) == "stop"


@pytest.mark.parametrize("body", ["START", "start", "Unstop", "YES", "yes!", "“Yes.”"])
def test_a_reply_that_asks_to_start_takes_an_opt_out_back(body: str) -> None:
    assert replies.wish(body) == "start"


@pytest.mark.parametrize("body", [*(text.strip("\n") for text in NEITHER.split("|")), "", "?!", "\u200b"])
def test_any_other_reply_asks_for_neither(body: str) -> None:
    assert replies.wish(body) is None


@pytest.mark.parametrize(("type_", "wish"), [("STOP", "stop"), ("START", "start"), ("HELP", None)])
def test_twilios_own_reading_outweighs_the_words(type_: str, wish: str | None) -> None:
    assert replies.wish("Basta ya", type_) == wish
    assert replies.wish("stop", type_) == wish


def test_every_stop_word_has_a_source() -> None:
    rows = list(csv.DictReader((files("sms_retry") / "stop_words.csv").read_text().splitlines()))
    assert all(row["words"] and row["language"] and row["source"] for row in rows)
    assert len({replies.folded(row["words"]) for row in rows}) >= len(rows) - 2
    assert {"en", "fr", "es", "pt"} <= {row["language"] for row in rows}
