"""Hostile words in every field that pages show, put there by the ways that are open to outsiders, agents and people, in Chromium.

Nothing of it runs, and nothing loads from elsewhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import yaml

from chimera.stack.addresses import control_url
from tests.e2e.desk import PAGES
from tests.e2e.house import House

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install the system's package chromium"),
    pytest.mark.timeout(300),
]
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
TENANT = "hostile"
PREFIX = '<script>ran=1<b\'onclick="ran=1"${{7*7}}'
"""An agent's name: it may hold no white space and no slash."""
MARKUP = (
    "<img src=x onerror=ran=1><img src=https://evil.test/pixel.png><svg onload=ran=1><script>ran=1;alert(1)</script>"
    "<style>*{background:url(https://evil.test/b)}</style><iframe srcdoc='<script>top.ran=1</script>'></iframe>"
    "<a href='javascript:ran=1'>here</a><meta http-equiv=refresh content='0;url=https://evil.test'><base href=https://evil.test>"
    "<object data='data:text/html,<script>ran=1</script>'></object><form action=https://evil.test><input autofocus onfocus=ran=1>"
    '"\' onmouseover=ran=1 x="</textarea></title></pre>--></q>{{7*7}}${7*7}'
)
SHORT = "\"'><img src=x onerror=ran=1><svg onload=ran=1>{{7*7}}"
URLS = ('https://news.test/"onmouseover="ran=1', "https://news.test/<script>ran=1</script>", "https://news.test/?javascript:ran=1")
FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>{title}</title><link>https://news.test/</link><description>news</description>
{items}</channel></rss>"""
ITEM = """<item><title>Lanterns light the harbour walk this autumn {n} {title}</title><link>{link}</link><guid>{n}</guid>
<pubDate>Mon, 0{n} Jan 2026 08:00:00 GMT</pubDate><description>The harbour walk opens on 1{n} October with lanterns and warm cider
for {n}00 neighbours. {text}</description></item>"""
WATCH = """window.blocked = []; document.addEventListener("securitypolicyviolation",
  (event) => window.blocked.push(`${event.violatedDirective} ${event.blockedURI}`));"""

TOUCHY = """[...document.querySelectorAll("main *")].filter((one) => [...one.attributes].some(
  (a) => a.name.startsWith("on") || /^\\s*(javascript|data|vbscript):/i.test(a.value))).map((one) => one.outerHTML.slice(0, 200))"""

ELSEWHERE = """[...document.querySelectorAll("main *")].flatMap((one) => ["src", "href", "action", "data", "poster", "srcset"]
  .filter((name) => one.hasAttribute(name) && new URL(one.getAttribute(name), location.href).host !== location.host)
  .map((name) => `${name} ${one.getAttribute(name)}`.slice(0, 200)))"""

UNFOLD = "document.querySelectorAll('main details').forEach((one) => { one.open = true; })"


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


@pytest.fixture(scope="module")
def name(house: House) -> str:
    """An agent of hostile name and account at a campaign of hostile name, brief and sources, with a card that people dressed up."""
    approvers = {kind: ["mal", "may"] for kind in ("publish", "paid", "financial")}
    (name,) = house.enrol(PREFIX, 1, tenant=TENANT, approve_above=1.0, approvers=approvers)
    items = "".join(
        ITEM.format(n=n, title=escaped(SHORT), link=escaped(url), text=escaped(MARKUP)) for n, url in enumerate(URLS, 1)
    )
    feed = house.home / "files" / "hostile.xml"
    feed.write_text(FEED.format(title=escaped(SHORT), items=items))
    brief = house.brief("hostile", 2)
    body = yaml.safe_load(brief.read_text())
    dressed_up = {"name": f"Autumn {SHORT}", "goal": f"{body['goal']} {SHORT}", "feeds": [*body["feeds"], str(feed)]}
    brief.write_text(yaml.safe_dump({**body, **dressed_up}))
    house.start(brief, [name])
    house.until(lambda: house.resting([name]) and len(house.cards([name])) == 2, "two cards wait")
    held, dressed = house.cards([name])
    house.done("review", "hold", str(held.address), "--reason", MARKUP[:480], "--as", SHORT.replace(" ", "_"))
    house.decide(dressed, "edit", "may", f"{MARKUP[:200]}")
    house.done("agent", "pause", name, "--reason", MARKUP[:900], "--as", SHORT.replace(" ", "_"))
    house.done("agent", "resume", name, "--reason", SHORT, "--as", "may")
    house.until_projected()
    return name


@pytest.fixture(scope="module")
def page(house: House, name: str) -> Iterator[Any]:
    from chimera.control.accounts import Accounts

    accounts = Accounts(house.home)
    accounts.put("mal", {TENANT: ["admin"]})
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(60_000)
        page.strange = []
        page.on("dialog", lambda dialog: (page.strange.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: elsewhere(request.url, house) and page.strange.append(f"asked for {request.url}"))
        page.on("popup", lambda popup: page.strange.append(f"opened {popup.url}"))
        page.add_init_script(WATCH)
        page.goto(f"{control_url(house.home)}/enter/{accounts.link('mal')}")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("#card")
        yield page
        browser.close()


def elsewhere(url: str, house: House) -> bool:
    return url.startswith("http") and urlsplit(url).netloc != urlsplit(control_url(house.home)).netloc


def harmless(page: Any) -> None:
    """Nothing ran, nothing was even tried, nothing of what stands there could run when it is touched."""
    assert page.evaluate("typeof window.ran") == "undefined"
    assert page.evaluate("window.blocked") == []
    assert page.strange == []
    assert page.evaluate(TOUCHY) == []
    assert page.locator("main script, main iframe, main object, main embed, main base, main meta, main svg[onload]").count() == 0
    assert page.evaluate(ELSEWHERE) == []
    assert page.url.startswith("http://127.0.0.1")


def path_of(path: str, house: House, name: str) -> str:
    card = house.cards([name])[0]
    (partition, offset), *_ = [(seen.record.partition, seen.record.offset) for seen in house.records("CampaignStarted", [name])]
    samples = {
        "name": name,
        "agent": name,
        "card": str(card.address),
        "campaign": house.campaigns([name])[0].campaign_id,
        "tenant": TENANT,
        "build": "0",
        "report": "none.html",
        "task": f"{card.address.campaign}.{card.address.ordinal}",
        "record": f"{partition}:{offset}",
    }
    for key, value in samples.items():
        path = path.replace(f"{{{key}}}", quote(value)).replace(f"{{{key}:path}}", quote(value))
    return path


SILENT = (
    "/account",
    "/analytics",
    "/audit",
    "/builds",
    "/builds/{build}/diff",
    "/calls",
    "/money",
    "/operations",
    "/parked",
    "/policies",
    "/policies/diff",
    "/policies/report/{report}",
    "/statement",
    "/switches",
)
"""Pages that may tell nothing of a single agent."""


@pytest.mark.parametrize("path", PAGES)
def test_no_page_runs_what_its_fields_say(house: House, page: Any, name: str, path: str) -> None:
    page.goto(control_url(house.home) + path_of(path, house, name))
    told = page.inner_text("main")
    assert path in SILENT or "onerror" in told or "ran=1" in told, "the hostile words are to be seen as words"
    page.evaluate(UNFOLD)
    harmless(page)


def test_every_card_is_shown_as_words_and_so_is_what_is_typed_and_refused(house: House, page: Any, name: str) -> None:
    for card in house.cards([name]):
        page.goto(f"{control_url(house.home)}/review?card={quote(str(card.address))}")
        page.wait_for_selector("#card")
        page.evaluate(UNFOLD)
        harmless(page)
    page.click("#open-edit")
    with page.expect_response(lambda answer: answer.url.endswith("/reread")):
        page.fill("#text", MARKUP)
    page.wait_for_selector("#reread ins")
    harmless(page)


@pytest.mark.parametrize(
    "path", ["/review?card={}", "/review?kind={}", "/review?agent={}&platform={}", "/fleet?name={}", "/agent/{}", "/{}"]
)
def test_what_an_address_says_is_shown_as_words_too(house: House, page: Any, path: str) -> None:
    page.goto(control_url(house.home) + path.replace("{}", quote(MARKUP, safe="")))
    harmless(page)
