"""Reports to the ledger that a member signed two different Updates for one place: that costs it stake.

Two signatures are the whole proof, so nobody has to be believed. Whoever saw both may report them; the first report
counts, and the others cost nothing, since the contract refuses them before they are sent.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from distrai.ledger.errors import LedgerError, LedgerRefused, LedgerUnreachable
from distrai.ledger.gas import explain
from distrai.ledger.keys import NodeKey
from distrai.ledger.stakes import StakesClient
from distrai.peer.events import ReportFault
from distrai.peer.link import Link
from distrai.peer.telemetry import Telemetry
from distrai.protocol.faults import place_of
from distrai.protocol.messages import Signed, Update
from distrai.protocol.primitives import Address

RETRY_S = 5.0
TRIES_MAX = 720
"""For an hour: others saw it, too, and a report can come late."""
REPORTED_MAX = 1024
"""Reports of one session: a liar with many keys must not cost more gas than this."""


@dataclass
class FaultReporter:
    """Reports the faults that one peer sees in one run. ``key`` pays for it, and gets the challenger's share."""

    link: Link
    stakes: Address
    key: NodeKey
    turn: Callable[[], float]
    """Seconds to wait first, so that peers do not all report at once."""
    telemetry: Telemetry
    reported: int = 0

    async def report(self, fault: ReportFault) -> None:
        """Report, whatever it takes within bounds; what came of it is told."""
        first = _update(fault.first)
        self.reported += 1
        if self.reported > REPORTED_MAX:
            return
        await asyncio.sleep(self.turn())
        facts = {"member": first.member.hex(), "round": first.round, "place": place_of(first).id.hex()}
        for _ in range(TRIES_MAX):
            try:
                is_own = await self._slash(fault)
            except LedgerUnreachable:
                await asyncio.sleep(RETRY_S)
                continue
            except LedgerError as error:
                self.telemetry.emit("fault-not-reported", **facts, why=_why(error))
            else:
                self.telemetry.emit("fault-reported", **facts, own=is_own)
            return

    async def _slash(self, fault: ReportFault) -> bool:
        """True if this report was the first. The challenger's share is paid at once."""
        first, second = _update(fault.first), _update(fault.second)
        stakes = await StakesClient.connect(self.link.rpc, self.stakes, self.link.chain_id, self.key)
        try:
            place = place_of(first).id
            signatures = fault.first.envelope.signature, fault.second.envelope.signature
            is_own = await stakes.slash(first, second, *signatures)
            if is_own:
                await stakes.collect_reward(place)
        finally:
            await stakes.close()
        return is_own


def _update(signed: Signed) -> Update:
    assert isinstance(signed.message, Update)
    return signed.message


def _why(error: LedgerError) -> str:
    if isinstance(error, LedgerRefused) and error.name == "NothingToSlash":
        return "the member has nothing staked that could be taken"
    return explain(error)
