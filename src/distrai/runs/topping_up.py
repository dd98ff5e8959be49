"""What the key of a peer needs to act on the ledger, tokens and gas, from the wallet of whoever it belongs to."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from distrai.ledger.coins import WEI_DECIMALS, CoinClient
from distrai.ledger.keys import NodeKey
from distrai.ledger.token import TokenClient
from distrai.peer.link import Link
from distrai.protocol.amounts import format_amount
from distrai.protocol.primitives import Address
from distrai.runs.caution import GAS_WEI_MAX
from distrai.runs.money import RunMoney
from distrai.runs.telling import printable
from distrai.runs.wallet import Wallet, show_address

Report = Callable[[dict[str, Any]], None]
GAS_NEEDED = 1_000_000
"""What registering, approving, staking and getting out use together, with room."""


class TooExpensive(ValueError):
    """Gas costs more than anybody should pay, or the node lies."""


class TooFewTokens(ValueError):
    """Neither the member's key nor the wallet has the tokens."""


async def fill_tokens(
    money: RunMoney, token: TokenClient, own: Address, amount: int, wallet: Wallet, report: Report
) -> None:
    """Let an account have so many tokens, from the wallet what it lacks. Raises TooFewTokens or a KeyFileError."""
    decimals = money.contracts.decimals
    missing = amount - await token.balance(own)
    if missing <= 0:
        return
    symbol, lacking = printable(await token.symbol()), format_amount(missing, decimals)
    needs = f"the key of this member, {show_address(own)}, lacks {lacking} {symbol}"
    where = f"(token {show_address(token.address)} on chain {token.chain_id})"
    if not wallet.exists():
        raise TooFewTokens(
            f"{needs} {where}, and there is no wallet at {wallet.path}: send them there, or give a --wallet"
        )
    address = wallet.address()
    has = await token.balance(address)
    if has < missing:
        raise TooFewTokens(
            f"{needs} {where}, and the wallet {show_address(address)} has {format_amount(has, decimals)}: send tokens "
            "to one of them (the run's opener can: `distrai wallet send FOLDER ADDRESS AMOUNT`)"
        )
    link = money.link
    paying = await TokenClient.connect(link.rpc, token.address, link.chain_id, wallet.open())
    try:
        await paying.transfer(own, missing)
    finally:
        await paying.close()
    told = {"amount": lacking, "symbol": symbol, "from": show_address(address), "to": show_address(own)}
    report({"event": "transferred", **told})


async def fill_gas(link: Link, key: NodeKey, wallet: Wallet, report: Report) -> None:
    """Where gas costs something and a key cannot pay it, send it some from the wallet if there is one that has it.

    Raises TooExpensive or a KeyFileError.
    """
    async with _coins(link, key) as own:
        cost = GAS_NEEDED * await own.gas_price()
        missing = cost - await own.balance(key.address)
    check_gas(cost, link.rpc)
    if missing <= 0 or not wallet.exists():
        return
    paying_key = wallet.open()
    async with _coins(link, paying_key) as paying:
        if await paying.balance(paying_key.address) < missing:
            return  # the ledger's refusal says what is missing
        await paying.send(key.address, missing)
    report({"event": "gas-sent", "wei": missing, "to": show_address(key.address)})


def check_gas(cost: int, url: str) -> None:
    """Raise TooExpensive if a node says that gas costs more wei than anybody should pay."""
    if cost > GAS_WEI_MAX:
        raise TooExpensive(
            f"the node {url} says that gas for this costs {format_amount(cost, WEI_DECIMALS)} coins: wait until it is "
            "cheaper, or ask a node that you trust (`distrai stake --rpc`; others take the link's rpc=)"
        )


@asynccontextmanager
async def _coins(link: Link, key: NodeKey) -> AsyncIterator[CoinClient]:
    client = await CoinClient.connect(link.rpc, link.chain_id, key)
    try:
        yield client
    finally:
        await client.close()
