"""What the sandboxes of studios and Instagram keep: keys, prices, links and containers that expire, fifty posts a day."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from chimera.mcp.sandbox import ideogram, luma
from chimera.mcp.sandbox.art import film, picture, size_of
from chimera.mcp.sandbox.gram import CONTAINER_LIVES_S, PER_DAY, Gram
from chimera.mcp.sandbox.jobs import AT_ONCE, URL_LIVES_S, JobBook
from chimera.mcp.sandbox.timeline import PlatformRefused
from tests.clock import Clock


def test_one_key_orders_one_job_and_another_request_under_it_is_refused(tmp_path: Path) -> None:
    book = JobBook(tmp_path, Clock())
    first = book.order("ava", "k", "make", {"prompt": "a"}, Decimal("0.06"))
    assert JobBook(tmp_path, Clock()).order("ava", "k", "make", {"prompt": "a"}, Decimal("0.06")) == first
    assert book.billed("ava") == Decimal("0.06")
    with pytest.raises(PlatformRefused, match="belongs to another"):
        book.order("ava", "k", "make", {"prompt": "b"}, Decimal("0.06"))
    assert book.order("ben", "k", "make", {"prompt": "a"}, Decimal(1)).id != first.id, "a key is one account's"
    with pytest.raises(PlatformRefused, match="no such job"):
        book.get(first.id, "ben")


def test_an_account_has_so_many_jobs_at_once_and_then_waits(tmp_path: Path) -> None:
    clock = Clock()
    book = JobBook(tmp_path, clock, takes_s=60)
    for number in range(AT_ONCE):
        book.order("ava", None, "make", {"n": number}, Decimal(0))
    with pytest.raises(PlatformRefused, match="are running"):
        book.order("ava", None, "make", {"n": -1}, Decimal(0))
    clock.now += 61
    assert book.ready(book.order("ava", None, "make", {"n": -1}, Decimal(0))) is False


def test_a_link_opens_its_file_for_a_day(tmp_path: Path) -> None:
    clock = Clock()
    book = JobBook(tmp_path, clock)
    job = book.order("ava", None, "make", {}, Decimal(0))
    expires, signature = (part.partition("=")[2] for part in book.link(job, "mp4").partition("?")[2].split("&"))
    assert book.opened(job.id, expires, signature) == job
    with pytest.raises(PlatformRefused, match="wrong or has expired"):
        book.opened(job.id, str(int(expires) + 1), signature)
    clock.now += URL_LIVES_S + 1
    with pytest.raises(PlatformRefused, match="wrong or has expired"):
        book.opened(job.id, expires, signature)


def test_prices_follow_what_is_asked_for() -> None:
    assert [str(ideogram.price(asked)) for asked in ({}, {"rendering_speed": "turbo", "num_images": 3})] == ["0.06", "0.09"]
    assert [str(luma.price(asked)) for asked in ({}, {"resolution": "4k", "duration": "9s"})] == ["0.70", "4.95"]


def test_instagram_publishes_fifty_a_day_per_account(tmp_path: Path) -> None:
    clock = Clock()
    gram = Gram(tmp_path, clock)
    for number in range(PER_DAY):
        gram.publish("ava", gram.contain("ava", "m.png", "image", f"post {number}"), None, number)
    waiting = gram.contain("ava", "m.png", "image", "one too many")
    with pytest.raises(PlatformRefused, match="50 posts"):
        gram.publish("ava", waiting, None, "more")
    assert gram.publish("ben", gram.contain("ben", "m.png", "image", "mine"), None, 1).account == "ben"
    clock.now += 24 * 3600 + 1
    fresh = gram.contain("ava", "m.png", "image", "next day")
    assert gram.publish("ava", fresh, None, "next").caption == "next day"
    assert gram.used("ava") == 1


def test_a_container_that_is_a_day_old_publishes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    gram = Gram(tmp_path, clock)
    container = gram.contain("ava", "m.png", "image", "late")
    assert gram.status(container) == "FINISHED"
    clock.now += CONTAINER_LIVES_S + 1
    assert gram.status(container) == "EXPIRED"
    with pytest.raises(PlatformRefused, match="container is EXPIRED"):
        gram.publish("ava", container, None, 1)
    used = gram.contain("ava", "m.png", "image", "once")
    gram.publish("ava", used, "k", 1)
    with pytest.raises(PlatformRefused, match="container is PUBLISHED"):
        gram.publish("ava", used, "other", 1)


def test_the_same_words_and_seed_are_the_same_files() -> None:
    assert picture("a boat", "16:9", 7, 64) == picture("a boat", "16:9", 7, 64) != picture("a boat", "16:9", 8, 64)
    assert film("a boat", 1)[4:8] == b"ftyp"
    assert [size_of(shape) for shape in ("1:1", "16x9", "720:1280")] == [(1024, 1024), (1024, 576), (576, 1024)]
