"""The ledger as peers use it: one ``RunRegistry`` on one chain, read and written through JSON-RPC.

One client serves the embedded chain, anvil and production alike. What it sends is signed by one key; what members sign
for themselves (registration, rotation, join) is signed by theirs, and may be carried here by anybody.
"""

from collections.abc import Sequence
from typing import Any, Self

from distrai.ledger.abi import all_errors
from distrai.ledger.errors import BadAnswer, LedgerRefused
from distrai.ledger.events import argument_of
from distrai.ledger.interface import Limits, Opening
from distrai.ledger.keys import NodeKey
from distrai.ledger.reader import LedgerReader, body_values, registry_artifact
from distrai.ledger.rpc import Patience, Rpc, rpc_to
from distrai.ledger.sender import Receipt, Sender
from distrai.ledger.statements import invitation, join_statement, registration, rotation
from distrai.protocol.body import Body
from distrai.protocol.primitives import Address, Hash, MemberId, SignatureBytes
from distrai.protocol.typed_data import Domain


class LedgerClient(LedgerReader):
    """A registry on a chain, and the key that pays for what is sent to it. Implements ``Ledger``."""

    def __init__(self, rpc: Rpc, domain: Domain, key: NodeKey, patience: Patience) -> None:
        super().__init__(rpc, domain, patience)
        self._key = key

    @classmethod
    async def connect(
        cls,
        url: str,
        registry: Address,
        chain_id: int,
        key: NodeKey,
        second_url: str | None = None,
        patience: Patience | None = None,
    ) -> Self:
        """A client of the registry at an address; ``second_url`` is asked where the first does not answer.

        Raises WrongChain if the node serves another chain or has no contract there, or LedgerUnreachable.
        """
        patience = patience or Patience()
        rpc = await rpc_to(url, registry, chain_id, second_url, patience)
        return cls(rpc, Domain(chain_id, registry), key, patience)

    @classmethod
    async def deploy_registry(
        cls, url: str, chain_id: int, key: NodeKey, patience: Patience | None = None
    ) -> Address:
        """Put a new registry on the chain and give its address."""
        patience = patience or Patience()
        rpc = Rpc([url], patience)
        rpc.chain_id = chain_id
        try:
            artifact = registry_artifact()
            receipt = await Sender(rpc, all_errors(), patience.call_s).send(key, None, artifact.bytecode)
        finally:
            await rpc.close()
        if receipt.contract is None:
            raise BadAnswer("the deployment's receipt names no contract")
        return receipt.contract

    # Members

    async def register(self, key: NodeKey, controller: Address, payout: Address) -> MemberId:
        """Become a member whose node key is ``key``; the client's key is its creator. ``payout`` zero: the controller.

        A key belongs to one member for ever, so its address serves as the creator's nonce: asking twice makes one.
        """
        nonce = int.from_bytes(key.address, "big")
        signature = key.sign(registration(self.domain, self._key.address, nonce, controller, payout))
        receipt = await self._send("register", nonce, controller, key.address, payout, signature)
        return MemberId(self._said(receipt, "MemberRegistered", "member"))

    async def rotate_key(self, member: MemberId, new_key: NodeKey) -> None:
        """Sign with another node key from the next head on; the client's key must be the controller."""
        rotations = (await self.member(member)).rotations
        signature = new_key.sign(rotation(self.domain, member, new_key.address, rotations))
        await self._send("rotateKey", member, new_key.address, signature)

    async def set_attributes(self, member: MemberId, controller: Address, payout: Address) -> None:
        """Change who controls a member and where its earnings go; the client's key must be the controller."""
        await self._send("setAttributes", member, controller, payout)

    # Runs

    async def open_run(self, opening: Opening, limits: Limits) -> int:
        """Open a run and give its number; whoever joins before the start is a seat."""
        parent = (opening.parent_run, opening.parent_round, opening.parent_head)
        origin = (opening.recipe_hash, opening.state_root, opening.data_hash, opening.tokenizer_hash, parent)
        seats = (limits.min_seats, limits.max_seats)
        rules = (
            *seats,
            limits.stall_seconds,
            *limits.roll_call_min,
            limits.epoch_rounds,
            limits.open_admission,
        )
        receipt = await self._send("open", origin, rules, once=True)
        return int(self._said(receipt, "RunOpened", "run"))

    async def require_stake(self, run: int, stakes: Address) -> bool:
        """Let only members with an active stake there join, as the run's owner, before anybody joined.

        False: the run asked for a stake there already.
        """
        try:
            await self._send("requireStake", run, stakes)
        except LedgerRefused:
            if await self.stakes_of(run) != stakes:
                raise
            return False
        return True

    def invitation(self, owner: NodeKey, run: int, member: MemberId) -> SignatureBytes:
        """What lets a member into a run; the run's owner signs it."""
        return owner.sign(invitation(self.domain, run, member))

    async def join(self, run: int, member: MemberId, key: NodeKey, invitation: bytes = b"") -> None:
        """Take part in a run; ``key`` is the member's node key, ``invitation`` empty where the run is open to all.

        A member that left comes back only if the client's key is its node key.
        """
        await self._send("join", run, member, key.sign(join_statement(self.domain, run, member)), invitation)

    async def leave(self, run: int, member: MemberId) -> None:
        """Take part no longer; a seat attests until a certificate drops it."""
        await self._send("leaveRun", run, member)

    async def announce(self, run: int, member: MemberId, endpoint: str) -> None:
        """Give newcomers an address to ask first."""
        await self._send("announce", run, member, endpoint)

    async def start(self, run: int, seats: Sequence[MemberId]) -> Hash:
        """Make the first head; ``seats`` are all that joined, sorted. Gives the head."""
        return Hash(self._said(await self._send("start", run, list(seats)), "Started", "head"))

    # Rounds

    async def certify(self, body: Body, signatures: Sequence[SignatureBytes]) -> Hash:
        """End a round; ``signatures`` are sorted by signer. Gives the new head."""
        receipt = await self._send("certify", body_values(body), b"".join(signatures))
        return Hash(self._said(receipt, "Certified", "head"))

    async def check_in(self, run: int, key: NodeKey) -> None:
        """Say that the seat with this key is alive, opening a roll call if the run is stalled.

        The seat's key sends it itself, so it needs what gas costs; it is fresh and cannot be kept for later.
        """
        await self._sender.send(key, self.domain.registry, self._abi.call_data("checkIn", (run,)))

    async def close_roll_call(self, run: int, drops: Sequence[MemberId]) -> None:
        """End a roll call; ``drops`` are the seats that did not check in, sorted."""
        await self._send("closeRollCall", run, list(drops))

    async def _send(self, function: str, *arguments: object, once: bool = False) -> Receipt:
        data = self._abi.call_data(function, arguments)
        return await self._sender.send(self._key, self.domain.registry, data, once=once)

    def _said(self, receipt: Receipt, event: str, name: str) -> Any:
        return argument_of(self._abi, self.domain.registry, receipt.logs, event, name)
