"""The wallet sandbox's chain: a real EVM whose blocks are made again from its journal."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from chimera.mcp.sandbox.chain import REVERTS, Chain
from chimera.mcp.sandbox.timeline import PlatformRefused
from tests.clock import Clock

NOWHERE = "0x" + "22" * 20


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    made = Chain(tmp_path, Clock())
    yield made
    made.close()


def test_a_transfer_moves_ether_and_tokens_and_costs_its_fee(chain: Chain) -> None:
    ava, ben = chain.wallet("ava"), chain.wallet("ben")
    assert (chain.native_balance(ava), chain.token_balance(chain.token, ava)) == (Decimal(10), Decimal(10_000))
    ether = chain.send_native("ava", "k1", ben, Decimal("0.5"))
    tokens = chain.send_token("ava", "k2", chain.token, ben, Decimal("12.34"))
    assert (ether.status, tokens.status, ether.sender, ether.to) == (1, 1, ava, ben)
    assert chain.native_balance(ben) == Decimal("10.5")
    assert chain.native_balance(ava) == Decimal("9.5") - Decimal(ether.fee_wei + tokens.fee_wei) / 10**18
    assert (chain.token_balance(chain.token, ava), chain.token_balance(chain.token, ben)) == (
        Decimal("9987.66"),
        Decimal("10012.34"),
    )


def test_one_key_sends_once_and_belongs_to_one_request(chain: Chain) -> None:
    first = chain.send_native("ava", "k", NOWHERE, Decimal(1))
    assert chain.send_native("ava", "k", NOWHERE, Decimal("1.00")) == first
    assert chain.native_balance(NOWHERE) == 1
    with pytest.raises(PlatformRefused, match="another request"):
        chain.send_native("ava", "k", NOWHERE, Decimal(2))
    assert chain.send_native("ben", "k", NOWHERE, Decimal(1)).hash != first.hash, "keys are an account's own"


def test_the_same_journal_makes_the_same_chain_to_the_block_hash(chain: Chain, tmp_path: Path) -> None:
    sent = chain.send_token("ava", "k", chain.token, NOWHERE, Decimal(7))
    head, receipts = chain.head(), chain.receipts()
    chain.close()
    again = Chain(tmp_path, Clock())
    assert (again.head(), again.receipts(), again.receipt(sent.hash)) == (head, receipts, sent)
    assert again.send_token("ava", "k", again.token, NOWHERE, Decimal(7)) == sent
    assert again.token_balance(again.token, NOWHERE) == 7
    again.close()


@pytest.mark.parametrize(
    ("why", "send"),
    [
        ("exceeds balance", lambda chain: chain.send_token("ava", "k", chain.token, NOWHERE, Decimal(10_001))),
        ("insufficient funds", lambda chain: chain.send_native("ava", "k", NOWHERE, Decimal(10))),
        ("is no address", lambda chain: chain.send_native("ava", "k", "0x22", Decimal(1))),
        ("no ERC-20 contract", lambda chain: chain.send_token("ava", "k", NOWHERE, NOWHERE, Decimal(1))),
        ("zero address", lambda chain: chain.send_token("ava", "k", chain.token, "0x" + "0" * 40, Decimal(1))),
        ("6 decimals", lambda chain: chain.send_token("ava", "k", chain.token, NOWHERE, Decimal("0.0000001"))),
    ],
)
def test_what_the_chain_would_revert_is_refused_and_leaves_no_transaction(chain: Chain, why: str, send: object) -> None:
    chain.wallet("ava")
    before = chain.head()
    with pytest.raises(PlatformRefused, match=why):
        send(chain)  # type: ignore[operator]
    assert chain.head() == before
    assert chain.send_native("ava", "k", NOWHERE, Decimal(1)).status == 1, "the key is free"


def test_an_allowance_is_what_was_approved(chain: Chain) -> None:
    chain.approve("ava", "k", chain.token, NOWHERE, Decimal("3.5"))
    assert chain.allowance(chain.token, chain.wallet("ava"), NOWHERE) == Decimal("3.5")


def test_a_restart_takes_the_kept_state_and_without_it_folds_the_journal_to_the_same_block(chain: Chain, tmp_path: Path) -> None:
    sent = chain.send_token("ava", "k", chain.token, NOWHERE, Decimal(7))
    head = chain.head()
    chain.close()
    mined: list[str] = []

    class Watched(Chain):
        def _mine(self, at: int, raw: str) -> str:
            mined.append(super()._mine(at, raw))
            return mined[-1]

    kept = Watched(tmp_path, Clock())
    assert (kept.head(), mined) == (head, []), "a restart executes nothing again, however long the journal is"
    kept._db.execute("DELETE FROM state_of")
    kept.close()
    folded = Watched(tmp_path, Clock())
    assert (folded.head(), mined[-1], len(mined)) == (head, sent.hash, 4)
    folded.close()


def test_two_processes_of_one_chain_see_each_others_transactions_and_never_use_a_nonce_twice(chain: Chain, tmp_path: Path) -> None:
    other = Chain(tmp_path, Clock())
    first = chain.send_native("ava", "k1", NOWHERE, Decimal(1))
    second = other.send_native("ava", "k2", NOWHERE, Decimal(2))
    assert other.send_native("ava", "k1", NOWHERE, Decimal(1)) == first, "a key is everybody's"
    assert (first.nonce, second.nonce, chain.native_balance(NOWHERE)) == (0, 1, 3)
    assert chain.head() == other.head()
    other.close()


def test_a_transaction_that_fails_in_its_block_has_a_receipt_that_says_so_and_costs_its_gas(chain: Chain) -> None:
    made = chain.send_token("ava", "k", chain.token, REVERTS, Decimal(5))
    assert (made.status, made.gas, made.payee, made.amount) == (0, 30_000, REVERTS, 5)
    said = chain.statement("ava")
    assert (said.nonce, said.holds["USDC"], said.received) == (1, 10_000, {"ETH": 10, "USDC": 10_000})
    assert said.holds["ETH"] == 10 - Decimal(made.fee_wei) / 10**18
