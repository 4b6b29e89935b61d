"""Webhooks: what they are told, by whose signature, when again and when no more; and whom they never reach."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from chimera.control.book import AccountTrouble
from chimera.control.telling import deliver, ping, signed
from chimera.control.webhooks import DELAYS_S, LEASE_S, MOST_CARDS, SECRET, Webhook, Webhooks, check_address
from tests.clock import Clock
from tests.receiver import Receiver, listening

LINK = "http://127.0.0.1:7000"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hooks(tmp_path: Path, clock: Clock) -> Webhooks:
    return Webhooks(tmp_path, clock)


def sent(hooks: Webhooks) -> list[bool]:
    """Everything that is due is sent once; whether each arrived."""
    found = []
    for each in hooks.take():
        ended = asyncio.run(deliver(each.hook, each.id, each.body))
        hooks.ended(each, delivered=ended.delivered, said=ended.said, final=ended.final)
        found.append(ended.delivered)
    return found


def test_a_receiver_is_told_of_new_cards_once_by_ids_and_a_link_and_can_check_who_says_it(
    hooks: Webhooks, receiver: Receiver, clock: Clock
) -> None:
    hook = hooks.add(receiver.url, "acme", "all", LINK, private=True)
    assert hooks.put(hook, ["ava/1.1.1", "ava/1.2.1"], 2)
    assert not hooks.put(hook, ["ava/1.1.1", "ava/1.2.1"], 2)
    assert sent(hooks) == [True]
    (got,) = receiver.got
    told = orjson.loads(got.body)
    assert (told["type"], told["data"]["cards"]) == ("review.waiting", ["ava/1.1.1", "ava/1.2.1"])
    assert told["data"] | {"cards": []} == {
        "tenant": "acme",
        "when": "all",
        "cards": [],
        "more": 0,
        "waiting": 2,
        "link": f"{LINK}/review?kind=all",
    }
    content = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    made = hmac.new(base64.b64decode(hook.secret.removeprefix(SECRET)), content, hashlib.sha256).digest()
    assert got.headers["webhook-signature"] == f"v1,{base64.b64encode(made).decode()}"
    assert sent(hooks) == []
    assert hooks.put(hook, ["ava/1.2.1", "ava/1.3.1"], 2)  # one is decided, one is new
    assert not hooks.put(hook, [], 0)
    assert hooks.put(hook, ["ava/1.2.1"], 1)  # and one waits again
    assert sent(hooks) == [True, True]


def test_the_signature_is_that_of_the_published_example() -> None:
    body = b'{"test": 2432232314}'
    made = signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_did_not_arrive_is_sent_again_later_and_later_and_at_last_given_up(
    hooks: Webhooks, receiver: Receiver, clock: Clock, tmp_path: Path
) -> None:
    hook = hooks.add(receiver.url, "acme", "all", LINK, private=True)
    receiver.status = 503
    hooks.put(hook, ["ava/1.1.1"], 1)
    for delay in DELAYS_S:
        assert sent(hooks) == [False]
        assert sent(hooks) == []
        clock.now += delay
        hooks = Webhooks(tmp_path, clock)  # another process goes on with it
    assert sent(hooks) == [False]
    clock.now += 10 * DELAYS_S[-1]
    assert sent(hooks) == []
    ((_, fares),) = hooks.listed()
    assert (fares.waiting, fares.done, fares.given_up, fares.last) == (0, 0, 1, "answered 503")
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1


def test_who_was_killed_while_sending_leaves_the_message_to_others(hooks: Webhooks, clock: Clock) -> None:
    hook = hooks.add("https://hooks.test/in", "acme", "all", LINK)
    hooks.put(hook, ["ava/1.1.1"], 1)
    (taken,) = hooks.take()
    assert hooks.take() == []
    clock.now += LEASE_S
    (again,) = hooks.take()
    assert (again.id, again.tries) == (taken.id, 2)


@pytest.mark.parametrize(("status", "state"), [(410, "given_up"), (302, "waiting")])
def test_who_is_gone_is_told_no_more_and_a_redirection_is_not_followed(
    hooks: Webhooks, receiver: Receiver, status: int, state: str
) -> None:
    hook = hooks.add(receiver.url, "acme", "all", LINK, private=True)
    receiver.status = status
    hooks.put(hook, ["ava/1.1.1"], 1)
    assert sent(hooks) == [False]
    ((_, fares),) = hooks.listed()
    assert getattr(fares, state) == 1
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "169.254.169.254", "[::1]", "10.0.0.1", "localhost", "[::ffff:10.0.0.1]", "0x7f000001"]
)
def test_an_address_that_is_not_public_is_never_dialled(receiver: Receiver, host: str) -> None:
    port = receiver.server.server_port
    hook = Webhook("h", f"https://{host}:{port}/", "acme", "all", False, LINK, f"{SECRET}c2VjcmV0")
    ended = asyncio.run(ping(hook))
    assert not ended.delivered
    assert "private or local" in ended.said
    assert receiver.got == []


@pytest.mark.parametrize(
    ("url", "private", "words"),
    [
        ("http://hooks.test/", False, "is not https"),
        ("ftp://hooks.test/", True, "is not https"),
        ("https://kim:pass@hooks.test/", False, "without a name and a password"),
        ("https:///path", False, "without a name"),
        ("https://hooks.test:port/", False, "no address"),
        ("https://hooks.test/\nHost: evil", False, "without a name"),
    ],
)
def test_an_address_that_could_not_be_told_safely_is_not_taken(url: str, private: bool, words: str) -> None:
    with pytest.raises(AccountTrouble, match=words):
        check_address(url, private)


def test_a_webhook_is_for_one_tenant_and_takes_what_waits_for_it_along_when_it_goes(hooks: Webhooks) -> None:
    for tenant, when, words in (("*", "all", "one tenant"), ("", "all", "one tenant"), ("acme", "sometimes", "--when sometimes")):
        with pytest.raises(AccountTrouble, match=words):
            hooks.add("https://hooks.test/", tenant, when, LINK)  # type: ignore[arg-type]
    hook = hooks.add("https://hooks.test/", "acme", "financial", LINK)
    hooks.put(hook, [f"ava/1.{n}.1" for n in range(MOST_CARDS + 7)], 99)
    (waiting,) = hooks.take()
    told = orjson.loads(waiting.body)["data"]
    assert (len(told["cards"]), told["more"], told["waiting"]) == (MOST_CARDS, 7, 99)
    hooks.remove(hook.id)
    assert hooks.listed() == []
    with pytest.raises(AccountTrouble, match="no webhook"):
        hooks.remove(hook.id)
