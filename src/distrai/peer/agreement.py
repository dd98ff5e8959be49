"""How the seats of a round come to one list: steps 5 to 8 of the rules.

Without any proposer where everybody has spoken, with rotating proposers else. Part of ``round.py``, which says when.
"""

from typing import TYPE_CHECKING

from distrai.peer.book import BODIES_PER_MEMBER
from distrai.peer.events import Evaluate, Submit
from distrai.protocol.assignment import proposer
from distrai.protocol.body import Body, check_body
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.errors import ProtocolError, WrongStateRoot, WrongUpdatesRoot
from distrai.protocol.lists import CertifiedList
from distrai.protocol.messages import BodySignature, Proposal, Signed
from distrai.protocol.primitives import Hash
from distrai.protocol.seating import check_succession, drops, promotions

if TYPE_CHECKING:
    from distrai.peer.round import Round


class Agreement:
    """Attesting, proposing and certifying in one round, for one seat."""

    def __init__(self, round_: "Round") -> None:
        self.round = round_
        self.book, self.standing, self.rules = round_.book, round_.standing, round_.rules
        self.evaluating: set[Hash] = set()
        self.states: dict[Hash, Hash] = {}
        self.bodies: dict[Hash, Body] = {}
        self.judged: set[Hash] = set()
        self.submitted_at: dict[Hash, float] = {}
        self.complete_at: dict[Hash, float] = {}

    def _state_of(self, certified: CertifiedList) -> Hash | None:
        """The state root that a list leads to, or None while it is being computed."""
        if not certified.entries:
            return self.standing.state_root
        root = certified.updates_root
        if root not in self.states and root not in self.evaluating:
            self.evaluating.add(root)
            self.round.effects.append(Evaluate(self.standing, certified))
        return self.states.get(root)

    def _body(self, certified: CertifiedList) -> Body | None:
        """The body that a list leads to, or None while its state is being computed. Made once, as the list."""
        root = certified.updates_root
        state_root = self._state_of(certified)
        if state_root is None or root in self.bodies:
            return self.bodies.get(root)
        self.bodies[root] = Body(
            run=self.standing.run,
            round=self.standing.round + 1,
            previous_head=self.standing.head,
            updates_root=certified.updates_root,
            state_root=state_root,
            trainers_root=certified.trainers_root,
            promotions=promotions(self.standing, self.rules.run),
            drops=drops(self.standing, self.rules.run),
        )
        return self.bodies[root]

    def _sign(self, body: Body, certified: CertifiedList, now: float) -> None:
        """Attest a body; its whole list is persisted first, else it may land and be known to nobody."""
        signed = any(own == body for own, _ in self.round.own.bodies.values())
        if signed or len(self.round.own.bodies) >= BODIES_PER_MEMBER:
            return  # the others would not keep more
        identity = body.id
        self.round.own.bodies[identity] = (body, certified)
        _, sign = self.round.identity.signs_with(self.standing.seat_key(self.round.member))
        attestation = sign(self.round.identity.domain.digest(identity))
        message = BodySignature(**self.round.header(), body_id=identity, attestation=attestation)
        self.round.keep(self.round.say(message, self.round.everyone, body=body, listed=certified), now)

    def agree_at_once(self, now: float) -> None:
        """Step 5, the fast path: everybody has spoken and everything named is open, so all compute the same list."""
        if len(self.book.haves) < len(self.standing.seats) or self.book.second_haves:
            return
        if any(name not in self.book.opened for name in self.book.named_by_quorum()):
            return
        allowed = self.book.allowed()
        if len(allowed) < max(1, self.rules.min_updates):
            return
        certified = self.book.certified_list(allowed)
        body = self._body(certified)
        if body is not None:
            self._sign(body, certified, now)

    def propose(self, now: float) -> None:
        """Step 6: in the own attempt, propose the allowed list, once."""
        settled = self.round.settled_at()
        if settled is None or now < settled:
            return
        attempt = self.round.attempt(now)
        turn = proposer(self.standing.seat_members, self.standing.round + 1, attempt)
        if turn != self.round.member or attempt in self.round.own.proposed:
            return
        updates = self.book.allowed()
        if len(updates) < max(1, self.rules.min_updates):
            if attempt == 0 or len(self.book.required()) >= self.rules.min_updates:
                return
            updates = []
        certified = self.book.certified_list(updates)
        body = self._body(certified)
        if body is None:
            return
        self.round.own.proposed.add(attempt)
        keys = tuple(self.book.keys[name].id for name in updates)
        proposal = Proposal(
            **self.round.header(),
            attempt=attempt,
            body=encode_canonical(body),
            updates=tuple(updates),
            haves=self.book.haves_naming(updates),
            keys=keys,
        )
        self.round.keep(self.round.say(proposal, self.round.everyone), now)

    def consider_proposals(self, now: float) -> None:
        """Step 7: sign what omits nothing that two thirds hold and leads where this peer arrives too."""
        settled = self.round.settled_at()
        if settled is None or now < settled:
            return
        for signed in list(self.book.proposals.values()):
            proposal = signed.message
            assert isinstance(proposal, Proposal)
            if signed.id not in self.judged and self._may_sign(
                proposal, self.book.received_at[signed.id], now
            ):
                self._sign_proposal(signed, proposal, now)

    def _may_sign(self, proposal: Proposal, received_at: float, now: float) -> bool:
        """Whether the list is within what is allowed, and omits nothing required since long enough before."""
        settled, timing = self.round.settled_at(), self.rules.timing
        assert settled is not None
        listed = set(proposal.updates)
        own_attempt = self.round.attempt(now)
        if not listed <= set(self.book.allowed()) or self.book.in_order(list(listed)) != list(
            proposal.updates
        ):
            return False
        if not listed:
            return own_attempt >= 1 and len(self.book.required()) < self.rules.min_updates
        if len(listed) < self.rules.min_updates:
            return False
        attempt = min(proposal.attempt, own_attempt)
        since = max(received_at, settled + timing.attempt_start(attempt)) - timing.delay_s(attempt)
        return all(name in listed for name, at in self.round.required_since.items() if at < since)

    def _sign_proposal(self, signed: Signed, proposal: Proposal, now: float) -> None:
        try:
            body = decode_canonical(proposal.body, Body)
            check_body(body)
            check_succession(self.standing, self.rules.run, body)
            certified = self.book.certified_list(list(proposal.updates))
            if body.updates_root != certified.updates_root:
                raise WrongUpdatesRoot("the body of a proposal names another list than the proposal")
            own_body = self._body(certified)
            if own_body is None:
                return  # asked for: its state is being computed
            if own_body != body:
                raise WrongStateRoot("the list of a proposal leads to another state than its body says")
            self._sign(body, certified, now)
        except ProtocolError as error:
            self.round.refuse(signed, error)
        self.judged.add(signed.id)

    def rank(self) -> int:
        """How many seats submit before this one."""
        seats = self.standing.seat_members
        return (seats.index(self.round.member) - self.standing.round - 1) % len(seats)

    def submit(self, now: float) -> None:
        """Send a full certificate to the ledger, staggered by rank, again and again until a head is seen."""
        for body_id, (body, _) in self.round.own.bodies.items():
            by_member = self.book.signatures.get(body_id, {})
            if len(by_member) < self.standing.quorum:
                continue
            first = self.complete_at.setdefault(body_id, now)
            due = self.submit_at(body_id, first)
            if now < due:
                continue
            self.submitted_at[body_id] = now
            ordered = sorted(by_member.values(), key=lambda item: item.signer)
            attestations = (item.message for item in ordered)
            signatures = tuple(item.attestation for item in attestations if isinstance(item, BodySignature))
            self.round.effects.append(Submit(body, signatures))

    def submit_at(self, body_id: Hash, complete_at: float) -> float:
        """When to submit (again)."""
        timing = self.rules.timing
        if body_id in self.submitted_at:
            return self.submitted_at[body_id] + len(self.standing.seats) * timing.d0_s
        return complete_at + self.rank() * timing.d0_s
