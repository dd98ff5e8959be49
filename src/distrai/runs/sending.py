"""Tokens of a run from one account to another: by who opened it, where that key lies here, else from the wallet."""

import asyncio
from typing import Any

from distrai.ledger.keys import NodeKey
from distrai.ledger.token import TokenClient
from distrai.protocol.amounts import format_amount, parse_amount
from distrai.runs.joining import owner_key
from distrai.runs.money import RunMoney, open_money
from distrai.runs.telling import printable
from distrai.runs.topping_up import TooFewTokens
from distrai.runs.wallet import Wallet, parse_address, show_address


def send_tokens(what: str, to: str, amount: str, wallet: Wallet, *, named: bool) -> dict[str, Any]:
    """``distrai wallet send``, as plain data; ``named``: the user said which wallet.

    Raises BadAddress, an error of ``parse_amount``, NoMoney, TooFewTokens, a KeyFileError or a LedgerError.
    """
    receiver = parse_address(to)

    async def run() -> dict[str, Any]:
        async with open_money(what) as money:
            decimals = money.contracts.decimals
            units = parse_amount(amount, decimals)
            key = _payer(money, wallet, named=named)
            token = await TokenClient.connect(money.url, money.contracts.token, money.link.chain_id, key)
            try:
                symbol, has = printable(await token.symbol()), await token.balance(key.address)
                if has < units:
                    raise TooFewTokens(
                        f"{show_address(key.address)} has {format_amount(has, decimals)} {symbol}, not {amount}: send "
                        "less, or from another --wallet"
                    )
                receipt = await token.transfer(receiver, units)
                left = await token.balance(key.address)
            finally:
                await token.close()
        return {
            "ok": True,
            "amount": format_amount(units, decimals),
            "symbol": symbol,
            "from": show_address(key.address),
            "to": show_address(receiver),
            "left": format_amount(left, decimals),
            "transaction": "0x" + receipt.transaction.hex(),
        }

    return asyncio.run(run())


def balance_of(what: str, wallet: Wallet) -> dict[str, Any]:
    """The tokens of a run that the wallet has, as plain data. Raises NoMoney, a WalletError or a LedgerError."""

    async def run() -> dict[str, Any]:
        async with open_money(what) as money:
            at, account = money.contracts, wallet.address()
            token = await TokenClient.connect(money.url, at.token, money.link.chain_id)
            try:
                balance, symbol = await token.balance(account), printable(await token.symbol())
            finally:
                await token.close()
        return {"balance": format_amount(balance, at.decimals), "symbol": symbol}

    return asyncio.run(run())


def _payer(money: RunMoney, wallet: Wallet, *, named: bool) -> NodeKey:
    """The opener's key where the run was opened here and no wallet is named, else the wallet's."""
    if money.folder is not None and money.folder.owner_key.exists() and not named:
        return owner_key(money.folder)
    return wallet.open()
