"""The wallet sandbox's chain: a real EVM (py-evm), one wallet per account, a token, and a journal that makes it durable. Blocking.

The one rule: the chain is a fold of its journal. A signed transaction is applied, then written beside the key it answers to and the
nodes of the state that it made, in one database transaction; a killed server stands where it stood, to the block hash. Several
processes may hold one chain: each looks for the others' transactions before it reads or signs.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from eth.db.atomic import AtomicDB
from eth.db.backends.memory import MemoryDB
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_tester import EthereumTester, PyEVMBackend  # type: ignore[import-untyped]
from eth_tester.exceptions import TransactionFailed  # type: ignore[import-untyped]
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.address import is_address, to_checksum_address

from chimera.mcp.sandbox.book import open_book
from chimera.mcp.sandbox.timeline import PlatformRefused

CHAIN_ID = 131277322940537
"""py-evm's own; nobody else's chain has it, so nothing signed here is worth anything elsewhere."""
GENESIS_S = 1_750_000_000
ETHER = Decimal(10) ** 18
GAS_LIMIT = {"create": 1_500_000, "native": 21_000, "token": 120_000, "too_little": 30_000}
REVERTS = to_checksum_address("0x000000000000000000000000000000000000fA11")
"""Tokens for this address run out of gas in their block: a transaction with a receipt that says reverted, to rehearse that day."""
MAX_FEE_WEI = 3_000_000_000
FIRST_NATIVE = Decimal(10)
FIRST_TOKENS = Decimal(10_000)
"""What a wallet is given when it is used first: sandbox money."""
_TOKEN = ("USD Coin (sandbox)", "USDC", 6, 10**15)
_BYTECODE = (Path(__file__).parent / "contracts" / "token.bin").read_text(encoding="ascii").strip()
_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, raw TEXT NOT NULL, hash TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS keys (
  account TEXT NOT NULL, key TEXT NOT NULL, asked TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (account, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state_of (one INTEGER PRIMARY KEY CHECK (one = 1), n INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS receipts (hash TEXT PRIMARY KEY, receipt TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (n INTEGER PRIMARY KEY, tool TEXT NOT NULL, account TEXT, key TEXT, at REAL NOT NULL);
"""


class _Nodes(MemoryDB):
    """What py-evm keeps (headers, blocks, nodes of tries), and which of it is not on disk yet. Nodes are named by their hashes,
    so all but a few pointers are written once."""

    def __init__(self, known: dict[bytes, bytes] | None = None) -> None:
        super().__init__({} if known is None else known)
        self.changed: set[bytes] = set()

    def __setitem__(self, key: bytes, value: bytes) -> None:
        super().__setitem__(key, value)
        self.changed.add(key)


class _Backend(PyEVMBackend):  # type: ignore[misc]
    """py-evm without its dice: a block is what its parent, its time and its transactions make it."""

    def mine_blocks(self, num_blocks: int = 1, coinbase: bytes = bytes(20)) -> tuple[bytes, ...]:
        return tuple(
            bytes(self.chain.mine_block(coinbase=coinbase, mix_hash=bytes(32), blob_gas_used=0).hash) for _ in range(num_blocks)
        )


@dataclass(frozen=True)
class Receipt:
    """What the chain says of a transaction; `at` is the block's time in seconds since 1970, `fee_wei` what its `gas` cost."""

    hash: str
    block: int
    status: int
    sender: str
    to: str
    fee_wei: int
    at: int
    gas: int
    nonce: int
    block_hash: str
    token: str
    """Address of the token that is moved; empty: ether."""
    payee: str
    """Where it goes; `to` is the token's contract where a token is moved."""
    amount: Decimal
    """In whole units, whatever the status."""


@dataclass(frozen=True)
class Statement:
    """A wallet: how many transactions it ever sent; by symbol what it ever received, and what it holds, in whole units."""

    address: str
    nonce: int
    received: dict[str, Decimal]
    holds: dict[str, Decimal]


class Chain:
    """One chain file. `clock` is wall seconds."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._db = open_book(directory / "chain.sqlite3", _SCHEMA)
        self._bank = _signer("the bank")
        funded = {"balance": 10**27, "nonce": 0, "code": b"", "storage": {}}
        self._genesis = (
            PyEVMBackend.generate_genesis_params({"timestamp": GENESIS_S}),
            {bytes.fromhex(self._bank.address[2:]): funded},
        )
        self._load()
        if not self._known:
            made = b"".join((bytes.fromhex(_BYTECODE[2:]), encode(["string", "string", "uint8", "uint256"], _TOKEN)))
            with self._writing():
                if not self._known:  # another process may have been first
                    self._sign_and_send(self._bank, None, 0, made, GAS_LIMIT["create"])
        first = self._db.execute("SELECT hash FROM journal ORDER BY n LIMIT 1").fetchone()[0]
        self.token = to_checksum_address(self._evm.get_transaction_receipt(first)["contract_address"])
        """Address of the token that wallets hold beside ether."""

    def close(self) -> None:
        self._db.close()

    # --- the chain and its files ---------------------------------------------------------------------------------------

    def _load(self) -> None:
        """The chain as the files tell it: its state as it was kept, or where that is not of the whole journal, folded anew."""
        last = self._last()
        of = self._db.execute("SELECT n FROM state_of").fetchone()
        kept = of is not None and of[0] == last
        self._nodes = _Nodes(dict(self._db.execute("SELECT key, value FROM state")) if kept else None)
        self._backend = _Backend(*self._genesis)
        kind, base = type(self._backend.chain), AtomicDB(self._nodes)
        self._backend.chain = kind(base) if kept else kind.from_genesis(base, *self._genesis)
        self._evm, self._known = EthereumTester(self._backend), last if kept else 0
        if not kept:
            for n, at, raw in self._db.execute("SELECT n, at, raw FROM journal ORDER BY n").fetchall():
                self._mine(int(at), str(raw))
                self._known = int(n)

    def _last(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(n), 0) FROM journal").fetchone()[0])

    def _catch_up(self) -> None:
        """Take in what another process wrote."""
        if self._last() != self._known:
            self._load()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Transactions that are in the journal and in the state, or in neither."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._catch_up()
            yield
            rows = [(key, self._nodes[key]) for key in self._nodes.changed]
            self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", rows)
            self._db.execute("INSERT OR REPLACE INTO state_of VALUES (1, ?)", (self._known,))
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            self._load()
            raise
        self._nodes.changed.clear()

    def _mine(self, at: int, raw: str) -> str:
        """A block of its own for one transaction; the same journal makes the same blocks."""
        self._backend.chain.set_header_timestamp(at)
        return str(self._evm.send_raw_transaction(raw))

    # --- who and how much --------------------------------------------------------------------------------------------

    def wallet(self, account: str) -> str:
        """The address of an account's wallet; used first, it is given ether and tokens by the bank."""
        self._catch_up()
        address = str(_signer(account).address)
        if self._is_new(address):
            with self._writing():
                if self._is_new(address):
                    self._grant(address)
        return address

    def _is_new(self, address: str) -> bool:
        return not self._evm.get_balance(address) and not self._evm.get_nonce(address)

    def _grant(self, address: str) -> None:
        tokens = _call("transfer(address,uint256)", address, self._units(FIRST_TOKENS))
        self._sign_and_send(self._bank, address, int(FIRST_NATIVE * ETHER), b"", GAS_LIMIT["native"])
        self._sign_and_send(self._bank, self.token, 0, tokens, GAS_LIMIT["token"])

    def native_balance(self, address: str) -> Decimal:
        """Ether."""
        self._catch_up()
        return Decimal(self._evm.get_balance(_address(address))) / ETHER

    def token_balance(self, token: str, address: str) -> Decimal:
        """Whole tokens. Raises PlatformRefused for an address that is no token."""
        held = self._ask(token, _call("balanceOf(address)", _address(address)))
        return Decimal(held) / Decimal(10) ** _TOKEN[2]

    def allowance(self, token: str, owner: str, spender: str) -> Decimal:
        """Whole tokens that `spender` may take from `owner`. Raises PlatformRefused."""
        allowed = self._ask(token, _call("allowance(address,address)", _address(owner), _address(spender)))
        return Decimal(allowed) / Decimal(10) ** _TOKEN[2]

    def _ask(self, token: str, data: bytes) -> int:
        self._catch_up()
        found = self._evm.call({"from": self._bank.address, "to": self._contract(token), "data": "0x" + data.hex()})
        return int(decode(["uint256"], bytes.fromhex(found[2:]))[0])

    def _contract(self, token: str) -> str:
        if _address(token) != self.token:
            raise PlatformRefused(404, "Not Found", f"{token} is no ERC-20 contract on this chain")
        return self.token

    # --- transfers ---------------------------------------------------------------------------------------------------

    def send_native(self, account: str, key: str | None, to: str, value: Decimal) -> Receipt:
        """Ether to an address, once per key. Raises PlatformRefused."""
        asked = ["native", _address(to), str(value.normalize())]
        return self._once(account, key, asked, (_address(to), int(value * ETHER), b"", GAS_LIMIT["native"]))

    def send_token(self, account: str, key: str | None, token: str, to: str, amount: Decimal) -> Receipt:
        """Tokens to an address, once per key. Raises PlatformRefused, also when the wallet holds less."""
        data = _call("transfer(address,uint256)", _address(to), self._units(amount))
        gas = GAS_LIMIT["too_little" if _address(to) == REVERTS else "token"]
        asked = ["token", token, _address(to), str(amount.normalize())]
        return self._once(account, key, asked, (self._contract(token), 0, data, gas))

    def approve(self, account: str, key: str | None, token: str, spender: str, amount: Decimal) -> Receipt:
        """Let an address take tokens, once per key. Raises PlatformRefused."""
        data = _call("approve(address,uint256)", _address(spender), self._units(amount))
        return self._once(
            account, key, ["approve", token, spender, str(amount.normalize())], (self._contract(token), 0, data, GAS_LIMIT["token"])
        )

    def _units(self, amount: Decimal) -> int:
        units = amount * Decimal(10) ** _TOKEN[2]
        if amount <= 0 or units != units.to_integral_value():
            raise PlatformRefused(400, "Bad Request", f"{amount} is no amount of a token with {_TOKEN[2]} decimals")
        return int(units)

    def _once(self, account: str, key: str | None, asked: list[str], sent: tuple[str, int, bytes, int]) -> Receipt:
        digest = hashlib.sha256(orjson.dumps(asked)).hexdigest()
        known = self._db.execute("SELECT asked, hash FROM keys WHERE account = ? AND key = ?", (account, key)).fetchone()
        if known is not None:
            if known[0] != digest:
                raise PlatformRefused(422, "Unprocessable", "This idempotency key belongs to another request.")
            return self.receipt(known[1])
        self.wallet(account)
        with self._writing():
            known = self._db.execute("SELECT hash FROM keys WHERE account = ? AND key = ?", (account, key)).fetchone()
            if known is None:  # by now another process may have sent it
                self._may(account, *sent)
                made = self._sign_and_send(_signer(account), *sent)
                if key is not None:
                    self._db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (account, key, digest, made))
            else:
                made = str(known[0])
        return self.receipt(made)

    def _may(self, account: str, to: str, value: int, data: bytes, gas: int) -> None:
        """A wallet refuses what the chain would revert, before it signs: as outside, nothing is sent then."""
        sender = _signer(account).address
        if self._evm.get_balance(sender) < value + gas * MAX_FEE_WEI:
            raise PlatformRefused(400, "Bad Request", "insufficient funds for gas * price + value")
        try:
            self._evm.call({"from": sender, "to": to, "value": value, "data": "0x" + data.hex()})
        except TransactionFailed as error:
            raise PlatformRefused(400, "Bad Request", f"execution reverted: {error.args[0]}") from error

    def _sign_and_send(self, signer: LocalAccount, to: str | None, value: int, data: bytes, gas: int) -> str:
        """Apply and journal one transaction; call it inside `_writing`."""
        at = max(int(self._clock()), int(self._evm.get_block_by_number("latest")["timestamp"]) + 1)
        call: dict[str, Any] = {"nonce": self._evm.get_nonce(signer.address), "gas": gas, "value": value, "data": data, "type": 2}
        call |= {"maxFeePerGas": MAX_FEE_WEI, "maxPriorityFeePerGas": 1_000_000_000, "chainId": CHAIN_ID}
        if to is not None:
            call["to"] = to
        raw = "0x" + signer.sign_transaction(call).raw_transaction.hex()
        made = self._mine(at, raw)
        written = self._db.execute("INSERT INTO journal (at, raw, hash) VALUES (?, ?, ?)", (at, raw, made))
        self._known = int(written.lastrowid or 0)
        return made

    # --- what happened -----------------------------------------------------------------------------------------------

    def receipt(self, hash_: str) -> Receipt:
        """The chain's receipt of a transaction. Raises PlatformRefused for one that the chain does not have."""
        kept = self._db.execute("SELECT receipt FROM receipts WHERE hash = ?", (hash_,)).fetchone()
        if kept is not None:
            told = orjson.loads(kept[0])
            return Receipt(**told | {"amount": Decimal(told["amount"])})
        self._catch_up()
        if not self._db.execute("SELECT 1 FROM journal WHERE hash = ?", (hash_,)).fetchone():
            raise PlatformRefused(404, "Not Found", f"the chain has no transaction {hash_[:80]}")
        made = self._receipt(hash_)
        self._db.execute("INSERT OR IGNORE INTO receipts VALUES (?, ?)", (hash_, orjson.dumps(asdict(made), default=str).decode()))
        return made

    def _receipt(self, hash_: str) -> Receipt:
        """As the EVM tells it; that takes it a while, and it is the same for ever."""
        found, sent = self._evm.get_transaction_receipt(hash_), self._evm.get_transaction_by_hash(hash_)
        block = self._evm.get_block_by_number(found["block_number"])
        data, token = bytes.fromhex(str(sent["data"])[2:]), ""
        payee, amount = str(found["to"] or ""), Decimal(int(sent["value"])) / ETHER
        if data[:4] == _selector("transfer(address,uint256)"):
            to, units = decode(["address", "uint256"], data[4:])
            token, payee, amount = payee, str(to_checksum_address(to)), Decimal(units) / Decimal(10) ** _TOKEN[2]
        return Receipt(
            hash=hash_,
            block=int(found["block_number"]),
            status=int(found["status"]),
            sender=found["from"],
            to=found["to"],
            fee_wei=int(found["gas_used"]) * int(found["effective_gas_price"]),
            at=int(block["timestamp"]),
            gas=int(found["gas_used"]),
            nonce=int(sent["nonce"]),
            block_hash=str(block["hash"]),
            token=token,
            payee=payee,
            amount=amount,
        )

    def statement(self, account: str) -> Statement:
        """What a wallet has and ever got, summed over the chain's transactions."""
        address = self.wallet(account)
        got = {"ETH": Decimal(0), "USDC": Decimal(0)}
        for (hash_,) in self._db.execute("SELECT hash FROM journal").fetchall():
            each = self.receipt(str(hash_))
            if each.payee == address and each.status:
                got["USDC" if each.token else "ETH"] += each.amount
        has = {"ETH": self.native_balance(address), "USDC": self.token_balance(self.token, address)}
        return Statement(address, int(self._evm.get_nonce(address)), got, has)

    def head(self) -> tuple[int, str]:
        """Number and hash of the newest block."""
        self._catch_up()
        block = self._evm.get_block_by_number("latest")
        return int(block["number"]), str(block["hash"])

    def receipts(self, limit: int = 100) -> list[Receipt]:
        """The newest transactions, newest first."""
        rows = self._db.execute("SELECT hash FROM journal ORDER BY n DESC LIMIT ?", (limit,))
        return [self.receipt(str(row[0])) for row in rows]

    def count_call(self, tool: str, account: str, key: str | None) -> None:
        """A call came in, whatever becomes of it."""
        self._db.execute("INSERT INTO calls (tool, account, key, at) VALUES (?, ?, ?, ?)", (tool, account, key, self._clock()))

    def calls_with(self, key: str) -> int:
        """How often a call came with this idempotency key."""
        return int(self._db.execute("SELECT count(*) FROM calls WHERE key = ?", (key,)).fetchone()[0])


def _signer(account: str) -> LocalAccount:
    """The account's key: the same one always, and worth nothing outside this chain."""
    made: LocalAccount = Account.from_key(hashlib.sha256(f"chimera sandbox wallet/{account}".encode()).digest())
    return made


def _address(text: str) -> str:
    if not is_address(text):
        raise PlatformRefused(400, "Bad Request", f"{text[:60]!r} is no address")
    return str(to_checksum_address(text))


def _call(signature: str, *values: Any) -> bytes:
    kinds = signature[signature.index("(") + 1 : -1].split(",")
    return _selector(signature) + encode(kinds, values)


def _selector(signature: str) -> bytes:
    return bytes(function_signature_to_4byte_selector(signature))
