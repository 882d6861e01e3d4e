"""The console in Chromium: without scripts, by keyboard, on a phone, in light and dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from local.browser import CHROMIUM
from local.stack import Stack
from local.twilio.stand_in import Refuse
from tests.e2e.messages import BODY, message, number, queue, statuses

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}: install Debian's package chromium"),
    pytest.mark.xdist_group("chromium"),
]
DESK, PHONE, SMALL_PHONE = (1180, 860), (390, 844), (320, 568)
Open = Callable[..., Page]

# The contrast of each visible text with its background, as WCAG defines it.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const over = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter(node => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    if (!texts.length || box.width <= 1 || !element.checkVisibility({visibilityProperty: true})) continue;
    const behind = [];
    for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
    const colours = [behind, [...behind, getComputedStyle(element).color]];
    const [lighter, darker] = colours.map(over).map(light).sort((x, y) => y - x);
    found.push([(lighter + 0.05) / (darker + 0.05), element.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""
NAMELESS = """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select")]
  .filter(e => !(e.textContent.trim() || e.labels?.length || e.getAttribute("aria-label"))).map(e => e.outerHTML)"""


@pytest.fixture
def open_page(stack: Stack, chromium: Browser) -> Iterator[Open]:
    """Opens a page of the console; afterwards the browser has logged no error."""
    errors: list[str] = []
    contexts = []

    def open_one(
        path: str, screen: tuple[int, int] = DESK, scheme: Literal["light", "dark"] = "light", **kept: Any
    ) -> Page:
        size: Any = {"width": screen[0], "height": screen[1]}
        contexts.append(chromium.new_context(viewport=size, color_scheme=scheme, base_url=stack.console.url, **kept))
        page = contexts[-1].new_page()
        page.on("console", lambda logged: errors.append(logged.text))
        page.on("requestfailed", lambda request: errors.append(request.url))
        page.goto(path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert [each for each in errors if "responded with a status of 40" not in each] == []


def pages(stack: Stack) -> list[str]:
    """The addresses of every kind of page, with rows on it."""
    stack.twilio.plan(number(1), Refuse(400, 21211))
    failed, waiting = stack.invoke("send_sms", message(1))["message_id"], queue(stack, 2)
    stack.db.execute("select sms_retry.open_sms_hold('country', '+44', '1 hour', 'by hand')")
    stack.db.execute("update sms_retry.sms_retry_queue set scheduled_for = now() - interval '1 hour'")
    stack.db.execute("select sms_retry.note_sms_action('ana@example.com', 'retry', 'message 1', 'true')")
    top = [
        "/",
        "/waiting",
        "/stuck",
        "/ended?code=21211",
        "/holds",
        "/senders",
        "/usage",
        "/budgets",
        "/people",
        "/actions",
        "/nothing",
    ]
    return [*top, f"/messages/{failed}", f"/messages/{waiting}", f"/messages/{waiting}/person"]


def test_everything_works_without_a_script(stack: Stack, open_page: Open) -> None:
    stack.twilio.plan(number(1), Refuse(400, 30003))
    stack.invoke("send_sms", message(1, message_key="booking-1"))
    page = open_page("/", java_script_enabled=False)

    page.get_by_label("Search by id, key, batch, number or SID").fill("booking-1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Message 1")
    page.get_by_role("button", name="Send now").click()
    expect(page.get_by_role("status")).to_contain_text("The message is due now.")
    stack.invoke("process_retries")
    page.reload()
    expect(page.get_by_role("listitem").filter(has_text="Twilio accepted it")).to_be_visible()
    page.get_by_role("button", name="Show number and text").click()
    expect(page.get_by_text(BODY)).to_be_visible()
    page.reload()
    expect(page.get_by_text(number(1))).to_be_visible()
    assert statuses(stack) == {"sent": 1}


def test_an_irreversible_action_needs_a_confirmation_checkbox(stack: Stack, open_page: Open) -> None:
    queue(stack, 1)
    page = open_page("/messages/1/person")
    page.get_by_role("button", name="Erase").click()
    assert page.url.endswith("/messages/1/person")
    assert statuses(stack) == {"queued": 1}
    page.get_by_label("Yes, erase: this cannot be undone").check()
    page.get_by_role("button", name="Erase").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Erase this person?")
    assert statuses(stack) == {"queued": 1}
    page.get_by_role("button", name="Erase").click()
    expect(page.get_by_role("status")).to_contain_text("Messages erased: 1.")
    assert statuses(stack) == {}


def test_the_keyboard_reaches_every_control_in_order_with_a_visible_focus(stack: Stack, open_page: Open) -> None:
    queue(stack, 1)
    page = open_page("/waiting")
    reached = []
    for _ in range(15):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "[document.activeElement.innerText || document.activeElement.name || document.activeElement.ariaLabel, "
            "getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(focused[0].strip())
        assert focused[1] == "solid" or reached == ["Skip to content"], focused
    assert reached == [
        "Skip to content",
        "sms-retry",
        "Overview",
        "Waiting",
        "Stuck",
        "Ended",
        "Holds",
        "Senders",
        "Usage",
        "Budgets",
        "People",
        "Actions",
        "word",
        "Search",
        "1",
    ]
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Message 1")


def test_the_skip_link_leads_past_the_navigation(open_page: Open) -> None:
    page = open_page("/people")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Number", exact=True).first).to_be_focused()


@pytest.mark.parametrize("screen", [DESK, PHONE, SMALL_PHONE])
def test_no_page_is_wider_than_its_screen(stack: Stack, open_page: Open, screen: tuple[int, int]) -> None:
    page = open_page("/", screen)
    for path in pages(stack):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= screen[0], path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(stack: Stack, open_page: Open, scheme: Literal["light", "dark"]) -> None:
    page = open_page("/", scheme=scheme)
    for path in pages(stack):
        page.goto(path)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 10
        assert [each for each in contrasts if each[0] < 4.5] == [], path


def test_light_and_dark_have_different_backgrounds(open_page: Open) -> None:
    shades = [
        open_page("/", scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert shades == ["rgb(245, 246, 248)", "rgb(14, 17, 22)"]


def test_every_control_has_a_name_and_every_page_one_heading(stack: Stack, open_page: Open) -> None:
    page = open_page("/")
    for path in pages(stack):
        page.goto(path)
        assert page.evaluate(NAMELESS) == [], path
        assert page.get_by_role("heading", level=1).count() == 1, path
        assert re.fullmatch(".+ · sms-retry", page.title())


def test_a_card_on_a_phone_is_still_a_row_for_a_screen_reader(stack: Stack, open_page: Open) -> None:
    queue(stack, 1)
    page = open_page("/waiting", PHONE)
    assert page.get_by_role("row").count() == 2
    row = page.get_by_role("row").nth(1)
    assert row.get_by_role("rowheader").inner_text().startswith("1")
    assert row.get_by_role("cell").count() >= 3


def test_a_form_of_another_site_changes_nothing_in_the_operators_browser(stack: Stack, open_page: Open) -> None:
    queue(stack, 1)
    page = open_page("/")
    token = page.locator("input[name=token]").first.get_attribute("value")
    # Another origin, with a stolen token.
    page.route(
        "**/evil",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"""
        <form method="post" action="{stack.console.url}/do/cancel"><input name="message_id" value="1">
        <input name="token" value="{token}"><button>Win a prize</button></form>""",
        ),
    )
    page.goto("http://evil.localhost:1/evil")
    page.get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing was changed")
    assert statuses(stack) == {"queued": 1}
