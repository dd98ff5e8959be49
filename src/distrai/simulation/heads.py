"""What must hold of heads and of what peers take from the ledger, checked from outside while a run is on."""

from typing import TYPE_CHECKING

from distrai.peer.events import Apply
from distrai.protocol.body import has_quorum
from distrai.protocol.cipher import binding, check_key
from distrai.protocol.errors import ProtocolError
from distrai.protocol.ledger_events import Certified, LedgerEvent, Position, RollCalled
from distrai.protocol.lists import Trainer, check_list
from distrai.protocol.messages import Update
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.seating import drops, promotions
from distrai.protocol.standing import Standing
from distrai.simulation.contract import Contract
from distrai.simulation.toy import NOT_FINITE, open_payload
from distrai.simulation.world import World

if TYPE_CHECKING:
    from distrai.simulation.peer import SimulatedPeer


class HeadWatch:
    """Sees every head of every fork and every list that an honest peer applies."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.standings: dict[Hash, Standing] = {}
        self.trainers: dict[Hash, tuple[Trainer, ...]] = {}
        """Who trains from each head."""
        self.standings_at: dict[tuple[Hash, Position], Standing] = {}
        self.used_blobs: dict[Hash, Hash] = {}
        self.counted: dict[Hash, frozenset[tuple[MemberId, int]]] = {}
        """Whose update of which base round counts in the chain up to a head."""
        self.checked_lists: set[Hash] = set()
        self.liars_few = True

    def broke(self, peer: "SimulatedPeer", rule: str) -> None:
        """Report."""
        self.world.watch.broke(peer, rule)

    # On the ledger

    def landed(self, event: LedgerEvent, contract: Contract) -> None:
        """Liars below a third of the seats at an epoch's start have never two thirds of them in it."""
        liars = sum(self.world.is_liar(member) for member in contract.seats)
        begins = contract.epoch_left == contract.limits.epoch_rounds and not isinstance(event, RollCalled)
        if begins and not (isinstance(event, Certified) and event.body.is_empty):
            self.liars_few = 3 * liars < len(contract.seats)
        if not has_quorum(liars, len(contract.seats)):
            return
        self.world.report.captured = True  # nothing is promised from here on
        if self.liars_few:
            self.world.report.broke(
                f"round {contract.round}: {liars} liars of {len(contract.seats)} seats, fewer than a third when the "
                "epoch began"
            )

    # What is taken

    def stands(self, peer: "SimulatedPeer", standing: Standing, at: Position) -> None:
        """The same head means the same for everybody; in the same block, also to the next certificate."""
        first = self.standings.setdefault(standing.head, standing)
        if _fixed(first) != _fixed(standing):
            self.broke(peer, f"round {standing.round}: the same head, another standing")
        known = self.standings_at.setdefault((standing.head, at), standing)
        if known is standing:
            return
        if known != standing:
            self.broke(peer, f"round {standing.round}: the same head in the same block, another standing")
        rules = self.world.rules.run
        due = [(promotions(item, rules), drops(item, rules)) for item in (known, standing)]
        if due[0] != due[1]:
            self.broke(peer, f"round {standing.round}: the same head, other promotions or drops")

    def applied(self, peer: "SimulatedPeer", apply: Apply, state_root: Hash) -> None:
        """What a peer applies is what some fork took, leads where it was certified to lead, and is clean."""
        standing, event = apply.standing, self.world.ledger.heads.get(apply.standing.head)
        number = standing.round
        if not isinstance(event, Certified | RollCalled) or isinstance(event, RollCalled) != (
            apply.body is None
        ):
            self.broke(peer, f"applied a round {number} that is not the ledger's")
            return
        if state_root != (event.body.state_root if isinstance(event, Certified) else event.state_root):
            self.broke(peer, f"round {number} leads to another state than was certified")
        self.stands(peer, standing, apply.at)
        self.trainers.setdefault(apply.before.head, apply.before.trainers)
        if number != peer.disk.round + 1:
            self.broke(peer, f"applied round {number} after round {peer.disk.round}")
        self._check_list(peer, apply)

    def _check_list(self, peer: "SimulatedPeer", apply: Apply) -> None:
        if apply.body is None or apply.certified is None:
            return
        try:
            check_list(apply.certified, apply.body)
            if apply.body.head not in self.checked_lists:
                self.checked_lists.add(apply.body.head)
                self._check_entries(peer, apply)
        except ProtocolError as error:
            self.broke(peer, f"the list of round {apply.body.round} breaks {type(error).__name__}: {error}")

    def _check_entries(self, peer: "SimulatedPeer", apply: Apply) -> None:
        """Signed by trainers, of this round or young enough, of this chain, revealed, finite, once."""
        assert apply.certified is not None and apply.body is not None
        members: list[MemberId] = []
        for update, entry in zip(apply.certified.updates, apply.certified.entries, strict=True):
            signed = self.world.opened(entry.update)
            members.append(update.member)
            base = self._base(apply, update)
            if base is None:
                self.broke(peer, "an update in the list is of another round")
            elif Trainer(update.member, signed.signer) not in self.trainers[base]:
                self.broke(peer, "an update in the list is not signed by its trainer")
            if (signed.id, entry.key) not in self.world.watch.revealed:
                self.broke(peer, "an update in the list was never revealed by its author")
            check_key(entry.key, _bound(update), update.key_hash)
            if open_payload(update, peer.disk.blobs[update.blob_hash], entry.key) == NOT_FINITE:
                self.broke(peer, "an update in the list is not finite")
            if self.used_blobs.setdefault(update.blob_hash, update.previous_head) != update.previous_head:
                self.broke(peer, "a ciphertext of another round counts again")
        if members != sorted(set(members)):
            self.broke(peer, "the list is not sorted by member, each once")
        self._check_counted(peer, apply)

    def _base(self, apply: Apply, update: Update) -> Hash | None:
        """The head that an update starts from, found by going back from head to head.

        Not by what the standing says of it: that is what is to be checked.
        """
        staleness, head, number = self.world.scenario.staleness, apply.before.head, apply.before.round
        while number >= apply.before.round - staleness:
            if (update.round, update.previous_head) == (number + 1, head):
                return head
            event = self.world.ledger.heads.get(head)
            if not isinstance(event, Certified | RollCalled):
                return None
            head = event.body.previous_head if isinstance(event, Certified) else event.previous_head
            number -= 1
        return None

    def _check_counted(self, peer: "SimulatedPeer", apply: Apply) -> None:
        """Each (member, base round) counts once in a chain, over all of it and not only over what standings carry."""
        assert apply.certified is not None and apply.body is not None
        before = self.counted_until(apply.before.head)
        listed = {(update.member, update.base_round) for update in apply.certified.updates}
        if before & listed:
            self.broke(peer, f"round {apply.body.round} lists an update of a member and a base again")
        self.counted[apply.body.head] = before | listed

    def counted_until(self, head: Hash) -> frozenset[tuple[MemberId, int]]:
        """Whose update of which base round counts in the chain up to this head: as of its newest certified list."""
        while head not in self.counted:
            event = self.world.ledger.heads.get(head)
            if not isinstance(event, Certified | RollCalled):
                break
            head = event.body.previous_head if isinstance(event, Certified) else event.previous_head
        return self.counted.get(head, frozenset())


def _fixed(standing: Standing) -> tuple[object, ...]:
    """What a head fixes, whatever the roster was when the ledger took it."""
    return (
        *(standing.seats, standing.trainers, standing.cursor, standing.state_root, standing.recent),
        *(standing.before, standing.bases, standing.spent),
    )


def _bound(update: Update) -> bytes:
    return binding(update.run, update.round, update.previous_head, update.member)
