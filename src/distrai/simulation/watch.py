"""What must hold in every scenario, checked from outside while it runs."""

from typing import TYPE_CHECKING

from distrai.peer.book import BODIES_PER_MEMBER
from distrai.peer.checkpoint import LISTS_KEPT
from distrai.peer.engine import RECORDED_HEADS_MAX
from distrai.peer.events import Effect, Note, Persist, ReportFault, Send
from distrai.peer.following import KEPT_HEADS
from distrai.peer.mailbox import EARLY_MESSAGES_MAX
from distrai.protocol.errors import ProtocolError
from distrai.protocol.messages import BodySignature, Key, Proposal, Signed
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.simulation.heads import HeadWatch
from distrai.simulation.held import HeldWatch
from distrai.simulation.signed import SignedWatch
from distrai.simulation.world import World

if TYPE_CHECKING:
    from distrai.simulation.peer import SimulatedPeer

OF_A_ROUND = ("update", "have", "key", "proposal", "signature")
MAY_BE_REFUSED = ("UnknownUpdate",)
"""Rules by which an honest message is refused when it overtakes another; it comes again with a digest."""
VIEWS_DIFFER = ("BadSignature", "NotATrainer", "NotASeat", "WrongTrainersRoot", "WrongMembershipChange")
"""Rules by which it is refused, too, where one peer knows of a join, a new key or a reorg and the other not yet."""
EFFECTS_MAX = 400
"""More effects than this from one event would be a storm."""


class Watch:
    """Sees every packet, every applied list and every note of honest peers; reports what should not be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said: dict[tuple[MemberId, Hash, str, int], Hash] = {}
        self.bodies: dict[tuple[MemberId, Hash], set[Hash]] = {}
        self.revealed: set[tuple[Hash, bytes]] = set()
        self.heads = HeadWatch(world)
        self.held = HeldWatch(world)
        self.signed = SignedWatch(world)

    def broke(self, peer: "SimulatedPeer", rule: str) -> None:
        """Report."""
        self.world.report.broke(f"at {self.world.clock.now:.2f} s, {peer.name}: {rule}")

    def raised(self, peer: "SimulatedPeer", error: Exception) -> None:
        """An engine must not raise, whatever it is told."""
        self.broke(peer, f"the engine raised {type(error).__name__}: {error}")

    # What is sent

    def sent(self, peer: "SimulatedPeer", send: Send) -> None:
        """Every honest member says one thing of a kind per head, and has it on disk before."""
        self.world.report.messages += len(send.raws) * len(send.to)
        for raw in send.raws:
            try:
                signed = self.world.opened(raw)
            except ProtocolError:
                continue  # a liar's garbage
            if isinstance(signed.message, Key):
                self.revealed.add((signed.message.update, signed.message.key))
            own = signed.message.member == peer.member and peer.identity.owns(signed.signer)
            if own:
                self.signed.sent(peer, signed)
            if own and peer.is_honest and signed.message.kind in OF_A_ROUND:
                self._check_own(peer, signed)

    def _check_own(self, peer: "SimulatedPeer", signed: Signed) -> None:
        message = signed.message
        record = next((item for item in reversed(peer.disk.records) if item.raw == signed.raw), None)
        if record is None and not peer.silent_through:  # after a loss it hears its own words from others
            self.broke(peer, f"sent a {message.kind} that was not persisted")
        if isinstance(message, BodySignature):
            self._check_signature(peer, message, record)
            return
        self.held.said(peer, message, signed.id)
        attempt = message.attempt if isinstance(message, Proposal) else 0
        place = (message.member, message.previous_head, message.kind, attempt)
        if place not in self.said:
            self.world.report.proposals += isinstance(message, Proposal)
            self.said[place] = signed.id
        if self.said[place] != signed.id:
            self.broke(peer, f"sent two different messages of kind {message.kind} in round {message.round}")

    def _check_signature(self, peer: "SimulatedPeer", message: BodySignature, record: Persist | None) -> None:
        if record is not None and (record.listed is None or record.body is None):
            self.broke(peer, "signed a body whose list was not persisted")
        bodies = self.bodies.setdefault((message.member, message.previous_head), set())
        bodies.add(message.body_id)
        if len(bodies) > BODIES_PER_MEMBER:
            self.broke(peer, f"signed more than {BODIES_PER_MEMBER} bodies in round {message.round}")

    # Inside

    def reported(self, fault: ReportFault) -> None:
        """Nobody honest is reported to the ledger."""
        self.world.report.faults += 1
        author = self.world.peers[fault.first.message.member]
        if author.is_honest:
            author.broke("was reported for two Updates for one place")

    def noted(self, peer: "SimulatedPeer", note: Note) -> None:
        """Honest messages are not refused, but for coming too early."""
        if note.what != "refused":
            return
        rule = str(note.facts["rule"])
        self.world.report.refused[rule] += 1
        started = peer.engine is not None and peer.engine.standing is not None
        author = self.world.peers.get(MemberId(bytes.fromhex(str(note.facts.get("member", "")))))
        if author is None or not author.is_honest or not started or rule in MAY_BE_REFUSED:
            return
        if not self.world.scenario.is_calm_about_members and rule in VIEWS_DIFFER:
            return
        if author.identity.owns(Address(bytes.fromhex(str(note.facts["signer"])))):
            self.broke(peer, f"refused a {note.facts['kind']} of {author.name}: {note.facts['why']}")

    def handled(self, peer: "SimulatedPeer", effects: list[Effect]) -> None:
        """Every queue has a bound."""
        engine, largest = peer.engine, self.world.report.largest
        if engine is None or engine.round is None:
            return
        book, standing = engine.round.book, engine.round.standing
        trainers, seats = len(standing.trainers), len(standing.seats)
        sizes = {
            "effects": (len(effects), EFFECTS_MAX),
            "early": (len(engine.mailbox.early), EARLY_MESSAGES_MAX),
            "lists": (len(engine.following.lists.entries), LISTS_KEPT),
            "rounds": (len(engine.following.rounds), KEPT_HEADS + 1),
            "records": (len(engine.records), RECORDED_HEADS_MAX),
            "updates": (len(book.updates), 3 * trainers * (1 + len(standing.bases))),
            "proposals": (len(book.proposals), 65 * seats),
            "bodies": (len(book.signatures), BODIES_PER_MEMBER * seats),
            "evaluating": (len(engine.round.agreement.evaluating), BODIES_PER_MEMBER * seats),
        }
        for name, (size, limit) in sizes.items():
            if size > largest[name]:
                largest[name] = size
                if size > limit:
                    self.broke(peer, f"{size} {name}, above the bound of {limit}")
