"""cast, a client that is not ours, on the embedded chain: blocks, logs, calls, and sending with a keystore of ours."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_utils import to_checksum_address

from distrai.ledger.abi import Artifact, load_artifact
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.keys import create_key
from distrai.ledger.transactions import Transaction
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import Address
from helpers.anvil import binary

pytestmark = pytest.mark.processes

DEADLINE_S = 180.0
SUPPLY = 10**24
PASSWORD = "only for this test"
TRANSFER = "Transfer(address indexed,address indexed,uint256)"
OTHER = Address(b"\x0b" * 20)


def shown(address: bytes) -> str:
    return to_checksum_address(address)


class CastFailed(Exception):
    """What cast printed as its error."""


@dataclass
class World:
    """A chain with a token on it, and cast pointed at it."""

    chain: EmbeddedChain
    url: str
    home: Path
    holder: Address
    token: Address
    artifact: Artifact

    async def cast(self, *arguments: str) -> str:
        """What cast prints. It knows nothing of this machine but the chain's address."""
        process = await asyncio.create_subprocess_exec(
            str(binary("cast")),
            *arguments,
            env={"ETH_RPC_URL": self.url, "HOME": str(self.home), "PATH": os.environ["PATH"]},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(DEADLINE_S):
                said, complaint = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise CastFailed(complaint.decode())
        return said.decode().strip()

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self.cast(*arguments, "--json"))

    async def send(self, *arguments: str, password: str = PASSWORD) -> Any:
        """Have cast sign with the holder's keystore, and give the receipt."""
        (self.home / "password").write_text(password)
        secret = ["--keystore", str(self.home / "key.json"), "--password-file", str(self.home / "password")]
        return await self.json("send", shown(self.token), *arguments, *secret)

    async def balance_of(self, owner: bytes) -> int:
        said = await self.cast("call", shown(self.token), "balanceOf(address)(uint256)", shown(owner))
        return int(said.split()[0])  # followed by the same in powers of ten


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    chain = EmbeddedChain.open(tmp_path / "chain")
    key = create_key(tmp_path / "key.json", PASSWORD)
    artifact = load_artifact("Token")
    creation = artifact.creation("Test", "TST", key.address, SUPPLY)
    raw, _ = Transaction(chain.chain_id, 0, 5_000_000, None, creation).sign(key)
    record = chain.transaction(chain.send_raw_transaction(raw))
    assert record is not None
    assert record.contract is not None
    async with serve(chain, "127.0.0.1", 0) as url:
        yield World(chain, url, tmp_path, key.address, record.contract, artifact)
    chain.close()


async def test_it_reads_blocks_transactions_and_accounts(world: World) -> None:
    chain, token, holder = world.chain, shown(world.token), shown(world.holder)
    assert await world.cast("chain-id") == str(chain.chain_id)
    assert await world.cast("block-number") == "1"
    assert await world.cast("block-number", "finalized") == "1"
    header = chain.header(1)
    block = await world.json("block", "1")
    assert block["hash"] == f"0x{header.hash.hex()}"
    assert block["parentHash"] == f"0x{chain.header(0).hash.hex()}"
    assert int(block["timestamp"], 16) == header.timestamp
    assert await world.json("block", block["hash"]) == block
    encoded = await world.cast("block", "1", "--raw")
    assert f"0x{keccak(bytes.fromhex(encoded[2:])).hex()}" == block["hash"], "a header's hash is its own"
    (mined,) = block["transactions"]
    receipt, transaction = await world.json("receipt", mined), await world.json("tx", mined)
    assert (receipt["status"], receipt["contractAddress"]) == ("0x1", token.lower())
    assert transaction["from"] == receipt["from"] == holder.lower()
    record = chain.transaction(bytes.fromhex(mined[2:]))
    assert record is not None
    assert await world.cast("tx", mined, "raw") == f"0x{record.raw.hex()}"
    assert await world.cast("nonce", holder) == "1"
    assert await world.cast("balance", holder) == "0"
    assert await world.cast("code", token) == f"0x{chain.code(world.token).hex()}"
    assert int(await world.cast("storage", token, "2"), 16) == SUPPLY == chain.storage(world.token, 2)
    assert [await world.cast(name) for name in ("gas-price", "base-fee")] == ["0", "0"]
    assert await world.cast("find-block", str(header.timestamp)) in ("0", "1")
    assert "one operator" in await world.cast("client")
    assert await world.json("rpc", "eth_getBlockReceipts", "latest") == [receipt]


async def test_it_reads_logs_and_calls_contracts(world: World) -> None:
    token, holder = shown(world.token), shown(world.holder)
    await world.send("transfer(address,uint256)", shown(OTHER), "250")
    everything = await world.json("logs", TRANSFER, "--from-block", "0", "--address", token)
    assert [int(log["data"], 16) for log in everything] == [SUPPLY, 250]
    of_holder = await world.json("logs", TRANSFER, holder, "--from-block", "0", "--to-block", "latest")
    assert of_holder == everything[1:]
    assert await world.json("logs", TRANSFER, holder, "--from-block", "0", "--to-block", "1") == []
    assert (await world.balance_of(world.holder), await world.balance_of(OTHER)) == (SUPPLY - 250, 250)
    before = await world.cast("call", token, "balanceOf(address)(uint256)", shown(OTHER), "--block", "1")
    assert before == "0"
    too_much = ["transfer(address,uint256)(bool)", holder, "251", "--from", shown(OTHER)]
    with pytest.raises(CastFailed) as refused:
        await world.cast("call", token, *too_much)
    selector = keccak(b"ERC20InsufficientBalance(address,uint256,uint256)")[:4].hex()
    assert f"0x{selector}" in str(refused.value)
    with pytest.raises(CastFailed, match=selector):
        await world.cast("estimate", token, *too_much)


async def test_it_sends_from_a_keystore_of_ours(world: World) -> None:
    pay = ["transfer(address,uint256)", shown(OTHER), "7"]
    estimate = await world.cast("estimate", shown(world.token), *pay, "--from", shown(world.holder))
    as_it_likes = await world.send(*pay)  # it offers a wei, which is not taken
    assert as_it_likes["type"] == "0x2"
    old = await world.send(*pay, "--legacy")
    assert old["type"] == "0x0"
    for receipt in (as_it_likes, old, await world.send(*pay, "--gas-limit", estimate, "--gas-price", "9")):
        assert receipt["status"] == "0x1"
        assert receipt["effectiveGasPrice"] == "0x0"
    assert await world.balance_of(OTHER) == 21
    with pytest.raises(CastFailed, match="no money to send"):
        await world.send("--value", "1", "--gas-limit", "100000")
    with pytest.raises(CastFailed):
        await world.send(*pay, password="another")
    assert await world.cast("nonce", shown(world.holder)) == "4"
