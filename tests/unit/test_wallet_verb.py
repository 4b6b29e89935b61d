"""`wallet transfer` at the desk: who is paid is on the tenant's list, and asking again meanwhile asks for one thing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from chimera.cli.main import build
from chimera.commands import verbs
from chimera.commands.at_wallet import wallet_transfer
from chimera.commands.decision import Refused
from chimera.events import records as rec
from tests.wallethouse import PAYEE, WalletHouse

MIXED = "0xAbCdEf0123456789aBcDeF0123456789AbCdEf01"


class Desk:
    """A room whose states are the house's, and whose orders are appended there."""

    def __init__(self, house: WalletHouse) -> None:
        self.house = house
        self.service = SimpleNamespace(still=self._still)
        self.order, self.fresh = (lambda verb, agent, decide: decide), (lambda find: find())

    @contextmanager
    def _still(self) -> Iterator[None]:
        yield

    def agent(self, name: str) -> Any:
        return self.house.agents[self.house.keys[0]]

    def tenant(self, name: str) -> Any:
        return self.house.tenant

    def submit(self, orders: list[Any], names: list[str]) -> verbs.Reply:
        made = orders[0](self.agent(names[0]))
        for data in made:
            numbered = data.model_copy(update={"command_no": self.agent(names[0]).command_no + 1})
            assert self.house.add(self.house.keys[0], numbered, "dee").outcome == "applied"
        return {"made": len(made)}


def ask(desk: Desk, **changed: Any) -> verbs.Reply:
    said = {"agent": "a0", "to": PAYEE, "amount": "0.5", "asset": "eth", "reason": "the rent", **changed}
    return wallet_transfer(desk, verbs.wish(verbs.WalletTransfer, "dee", **said))  # type: ignore[arg-type]


def play(place: Path, story: Callable[[Desk], Awaitable[None]]) -> None:
    async def go() -> None:
        async with WalletHouse(place) as house:
            await story(Desk(house))

    asyncio.run(asyncio.wait_for(go(), 120))


def test_a_payment_begins_once_while_it_is_on_its_way_and_a_dry_run_begins_nothing(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        before = len(desk.house.records)
        told = ask(desk, dry_run=True)
        assert (told["plan"], len(desk.house.records)) == ({"a0": "CampaignStarted"}, before)
        assert told["payment"] == {
            "agent": "a0",
            "account": "ava",
            "asset": "ETH",
            "amount": "0.5",
            "to": PAYEE,
            "reason": "the rent",
        }
        assert ask(desk)["made"] == 1
        assert ask(desk)["made"] == 0
        assert ask(desk, dry_run=True)["plan"] == {"a0": "nothing: under way already"}
        await desk.house.approved_by("ann", "bob")
        assert desk.house.end().outcome == "executed"
        assert ask(desk)["made"] == 1, "the next one of the same amount is another payment"

    play(tmp_path, story)


def test_an_address_is_the_listed_one_in_whatever_letters_and_a_stranger_is_refused_by_name(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        desk.house.command(rec.PayeeAllowed, payee=MIXED)
        assert ask(desk, to=MIXED.lower(), dry_run=True)["payment"]["to"] == MIXED
        with pytest.raises(Refused, match=r"0x3333 is no payee of tenant 'acme'.*chimera payee allow 0x3333"):
            ask(desk, to="0x3333")

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"amount": "1e3"}, "'1e3' is no amount"), ({"amount": "0.00"}, "'0.00' is no amount"), ({"asset": "$"}, r"'\$' is no asset")],
)
def test_what_is_no_amount_and_no_asset_is_said_at_once(tmp_path: Path, changed: dict[str, str], why: str) -> None:
    async def story(desk: Desk) -> None:
        with pytest.raises(Refused, match=why):
            ask(desk, **changed)

    play(tmp_path, story)


def test_an_agent_without_a_wallet_is_told_how_to_get_one(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        desk.agent("a0").accounts.pop("wallet")
        with pytest.raises(Refused, match="has no wallet: `chimera account link a0 wallet/a0`"):
            ask(desk)

    play(tmp_path, story)


def test_an_asset_without_a_price_is_a_usage_error_before_anybody_is_asked() -> None:
    said = ["wallet", "transfer", "--agent", "ava", "--to", PAYEE, "--amount", "1", "--asset", "DOGE", "--reason", "why"]
    told = CliRunner().invoke(build(said), said)
    assert told.exit_code == 2
    assert "there are: ETH, USDC" in told.output + str(told.stderr if told.stderr_bytes else "")
