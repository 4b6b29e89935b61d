"""Every capability of the mission, end to end in the sandbox through the swarm. The table is the spec: what is asked for, by whom,
and what the outside shows of it afterwards.

Each story starts from a brief or a signed command, passes planner, worker, judges, people where they are asked, and the executor,
and ends in the sandbox's own books.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from chimera.events import records as rec
from chimera.mcp.sandbox.timeline import Timeline
from chimera.policy.brief import FollowUp, Replies
from tests.paidhouse import PaidHouse
from tests.swarmhouse import PROFILES, SwarmHouse, XSandbox
from tests.unit import test_direct_messages as private
from tests.unit import test_follow_ups as followed
from tests.unit import test_generation as studios
from tests.unit import test_searches as searches
from tests.wallethouse import PAYEE, WalletHouse

HOUR = 3_600_000


def text_and_post(place: Path) -> str:
    """A brief is worked off: the writer writes, the executor publishes."""
    x = Timeline(place / "x")
    house = SwarmHouse(followed.EXAMPLES, followed.TRUSTING, x=XSandbox(x))
    house.enrol(followed.AGENT, followed.SOUL, followed.brief_with(None), followed.ACCOUNT)
    followed.act(house)
    (post,) = x.posts()
    assert "draft" in [purpose for purpose, _ in house.asked]
    assert [effect.arguments["text"] for effect in house.proposals()] == [post.text]
    x.close()
    return f"{post.account} published"


def metrics(place: Path) -> str:
    """Numbers of a post decide whether it is followed up."""
    x = Timeline(place / "x")
    house = followed.house_on(x, FollowUp(after_hours=2, at_least={"likes": 1}))
    (first,) = x.posts()
    x.once("Mia", None, "like", {}, lambda: x.like("Mia", first.id) or {})
    followed.act(house, 2 * HOUR)
    assert [post.reply_to for post in x.posts()] == [first.id, None], "it was liked, so there is a second text in its thread"
    x.close()
    return "liked, so followed up"


def takedown(place: Path) -> str:
    """A signed command takes a post down."""
    x = Timeline(place / "x")
    house = SwarmHouse(followed.EXAMPLES, followed.TRUSTING, x=XSandbox(x))
    house.enrol(followed.AGENT, followed.SOUL, followed.brief_with(None), followed.ACCOUNT)
    followed.act(house)
    (post,) = x.posts()
    wanted = {"takedown": {"platform": "x", "platform_id": str(post.id), "reason": "the shop has closed"}}
    number = house.agents[followed.AGENT].command_no + 1
    started = rec.CampaignStarted(command_no=number, campaign_id="down", name="down", brief=wanted, brief_hash="b")
    assert house.add(followed.AGENT, started, "dee").outcome == "applied"
    followed.act(house)
    assert x.posts() == []
    x.close()
    return "taken down"


def mention_and_reply(place: Path) -> str:
    """Somebody speaks to the agent in public, and is answered in that thread."""
    x = Timeline(place / "x")
    x.know(private.ACCOUNT)
    said = f"@{private.ACCOUNT} {private.ASKED}"
    x.once("Mia", None, "post", {}, lambda: {"id": x.post("Mia", said, None, {}).id})
    house = SwarmHouse(private.EXAMPLES, private.TRUSTING, x=XSandbox(x))
    brief = private.BRIEF.model_copy(update={"formats": private.BRIEF.formats[:1], "replies": Replies(days=2)})
    house.enrol(private.AGENT, private.SOUL, brief, private.ACCOUNT)
    private.wait(house, 10_000)
    asyncio.run(house.go_out())
    assert [signal.source for signal in private.heard(house)] == ["x/social.mentions"]
    (mention,) = [post for post in x.posts() if post.account == "Mia"]
    assert [post.account for post in x.posts() if post.reply_to == mention.id] == [private.ACCOUNT]
    x.close()
    return "heard and answered"


def message(place: Path) -> str:
    """Somebody writes in private, and is answered there."""
    x = Timeline(place / "x")
    x.know(private.ACCOUNT)
    private.says(x, "Mia", private.ASKED)
    house = private.house_on(x, private.TRUSTING)
    asyncio.run(house.go_out())
    newest, *_ = x.messages("Mia")
    assert (newest.sender, newest.recipient) == (private.ACCOUNT, "Mia")
    x.close()
    return "answered in private"


def film(place: Path) -> str:
    """A picture, a film made from it, and the post that shows it."""
    house = studios.house_with(place, "video")
    studios.run(house, house.live)
    picture, shown = (end.assets[0] for end in house.of(rec.EffectEnded)[:2])
    (post,) = house.gram.posts("ava.cooks")
    assert (picture[-4:], post.media) == (".png", shown)
    return f"{shown[-4:]} from {picture[-4:]}"


def searched(place: Path) -> str:
    """Web and news are asked, and the post cites what was found."""
    house = searches.run(place, "brave")
    assert searches.made(house, "research").provenance == {"tools": ["search.news", "search.web"]}
    post = searches.made(house, "publish")
    assert post.effect is not None
    assert any(source["url"] in post.effect.arguments["text"] for source in post.sources)
    return "cited"


def boost(place: Path) -> str:
    """A post is shown to more people, for money from the ledger."""

    async def go() -> Decimal:
        async with PaidHouse(place) as house:
            house.command(rec.BudgetSet, scope="tenant", limit_usd=Decimal(100))
            house.boost(house.keys[0], "small", 3)
            await house.settle()
            assert house.spent() == house.book.charged_usd()
            return house.spent()

    return f"{asyncio.run(go())} USD"


def paid_in(asset: str) -> Callable[[Path], str]:
    """A payment from the agent's wallet, with the chain's receipt."""

    def story(place: Path) -> str:
        async def go() -> str:
            async with WalletHouse(place) as house:
                house.pay("0.5", asset)
                await house.approved_by("ann", "bob")
                proof = house.end().receipt or {}
                receipt = house.chain.receipt(proof["hash"])
                assert (proof["block"], receipt.status, receipt.payee, receipt.amount) == (
                    str(receipt.block),
                    1,
                    PAYEE,
                    Decimal("0.5"),
                )
                return f"{receipt.amount} {asset}"

        return asyncio.run(go())

    return story


TABLE: tuple[tuple[str, Callable[[Path], str], set[str], str], ...] = (
    ("text, publish", text_and_post, {"text.complete", "feeds.read", "social.publish"}, "one published"),
    ("metrics", metrics, {"social.metrics"}, "liked, so followed up"),
    ("delete", takedown, {"social.delete"}, "taken down"),
    ("mentions, reply", mention_and_reply, {"social.mentions", "social.reply"}, "heard and answered"),
    ("DM", message, {"social.messages", "social.dm"}, "answered in private"),
    ("image, video", film, {"image.generate", "video.generate"}, ".mp4 from .png"),
    ("news, search", searched, {"search.news", "search.web"}, "cited"),
    ("boost", boost, {"ads.boost"}, "12.5 USD"),
    ("native transfer", paid_in("ETH"), {"wallet.transfer_native", "wallet.receipt"}, "0.5 ETH"),
    ("ERC-20 transfer", paid_in("USDC"), {"wallet.transfer", "wallet.receipt"}, "0.5 USDC"),
)
"""What it is called in the mission, the story, the capabilities that it goes through, and what it says at its end."""


@pytest.mark.parametrize(("story", "said"), [(row[1], row[3]) for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_capability_works_end_to_end_through_the_swarm(story: Callable[[Path], str], said: str, tmp_path: Path) -> None:
    assert story(tmp_path) == said


def test_no_capability_that_a_profile_offers_as_an_effect_lacks_a_story() -> None:
    told = set[str]().union(*(row[2] for row in TABLE))
    effects = {
        name
        for profile in PROFILES.by_name.values()
        for name, spec in profile.spec.capabilities.items()
        if spec.effect_class != "none" and not name.startswith("media.")
    }
    assert effects <= told, f"no story tells of {sorted(effects - told)}"
