"""A member of a local run that says whatever a test wants, over the real transport and to the real ledger."""

import asyncio
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace

from distrai.algorithms.algorithm import Algorithm
from distrai.algorithms.moments import Moments
from distrai.ledger.client import LedgerClient
from distrai.ledger.keys import NodeKey
from distrai.network.http import HttpTransport
from distrai.network.interface import Endpoint
from distrai.network.records import EndpointRecord, open_record, seal_record
from distrai.network.store import BlobStore
from distrai.peer.identity import Identity
from distrai.peer.link import parse_link
from distrai.peer.plan import Plan
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.cipher import binding, key_hash, seal
from distrai.protocol.lists import root_of_trainers
from distrai.protocol.messages import (
    UPDATE_VERSION,
    Have,
    Key,
    Message,
    Packet,
    Signed,
    Update,
    decode_packet,
    encode_packet,
    open_envelope,
)
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from distrai.runs.archive import Archive
from distrai.runs.children import Child
from helpers.local_runs import Drive

NAME = "peer-3"
HONEST = ("peer-0", "peer-1", "peer-2")


class LyingStore(BlobStore):
    """Serves other bytes than it was asked for, once it ``lies``."""

    lies = False

    def read_chunk(self, hash_: Hash, index: int) -> bytes:
        data = super().read_chunk(hash_, index)
        return bytes(len(data)) if self.lies else data


@dataclass
class Pretended:
    """What a local run sees of the process that this peer is not."""

    invitation: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    returncode: int | None = None

    @property
    def stdin(self) -> "Pretended":
        return self

    def write(self, line: bytes) -> None:
        self.invitation.put_nowait(bytes.fromhex(json.loads(line)["invitation"]))

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        self.returncode = 0
        self.over.set()

    async def wait(self) -> int:
        await self.over.wait()
        return 0


@dataclass
class Work:
    """An update and what it was made of."""

    signed: Signed
    blob: BlobRef
    key: bytes

    @property
    def id(self) -> Hash:
        return self.signed.id


class Hostile:
    """The member: it knows where the run stands from what the test sees, and trains nothing."""

    def __init__(self, folder: Path, drive: "HostileDrive") -> None:
        self.key = NodeKey.generate()
        self.drive = drive
        self.store = LyingStore(folder)
        self.transport = HttpTransport(
            self.store,
            host="127.0.0.1",
            port=0,
            address=self.key.address,
            sign=self.key.sign,
            recover=recover,
            local=True,
            rng=random.Random(1),
        )
        self.child = Child(NAME, Pretended(), drive.run._on_event)  # type: ignore[arg-type]
        self.heard: dict[Hash, Signed] = {}
        self.honest: dict[str, MemberId] = {}
        self.endpoints: dict[MemberId, Endpoint] = {}
        self.news = asyncio.Event()
        self.rng = torch.Generator().manual_seed(3)
        self.tasks: list[asyncio.Task[None]] = []
        self.round, self.head, self.state_root = 0, ZERO_HASH, ZERO_HASH

    # Life

    async def live(self, link_text: str) -> None:
        """Register, join, listen; then the test goes on."""
        link = parse_link(link_text)
        self.run, self.domain = link.run, Domain(link.chain_id, link.registry)
        self.ledger = await LedgerClient.connect(link.rpc, link.registry, link.chain_id, self.key)
        url = await self.transport.start()
        self.member = await self.ledger.register(self.key, self.key.address, self.key.address)
        self._say("member", member=self.member.hex())
        process: Any = self.child.process
        await self.ledger.join(self.run, self.member, self.key, await process.invitation.get())
        self.identity = Identity(self.member, self.key.address, self.domain, self.key.sign, recover)
        record = EndpointRecord(run=self.run, member=self.member, sequence=1, urls=(url,))
        self.record = seal_record(record, self.domain, self.key.sign)
        self.tasks.append(asyncio.create_task(self._listen()))
        self._say("ready", member=self.member.hex(), round=0)

    def _say(self, event: str, **facts: Any) -> None:
        self.child.events[event] = {"event": event, **facts}
        self.child.on_event(NAME, self.child.events[event])
        self.child.changed.set()

    def done(self, rounds: int) -> None:
        """Let the local run know that this peer would be done."""
        self._say("applied", round=rounds, head="0x", state_root="0x", own=False)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.transport.close()
        await self.ledger.close()

    async def _listen(self) -> None:
        async for _, raw in self.transport.received():
            packet = decode_packet(raw)
            for each in packet.endpoints:
                record, signer = open_record(each, self.domain, recover)
                self.endpoints[record.member] = record.endpoint(signer)
            for each in packet.envelopes:
                signed = open_envelope(each, self.domain, recover)
                self.heard[signed.id] = signed
            self.news.set()

    async def begin(self) -> None:
        """Wait for the start, and find out where everybody is."""
        observer = self.drive.observer
        await self.drive.until(  # who trains has seen the start; before that nothing is kept
            lambda: {event["from"] for event in observer.of("trained")} >= set(HONEST), "training by all"
        )
        state = await self.ledger.run_state(self.run)
        self.head, self.state_root = state.head, state.state_root
        archive = Archive(self.drive.folder.archive)
        recipe = self.drive.folder.read().recipe_hash
        self.plan = Plan.of(archive.recipe(_hash(recipe)))
        self.algorithm = Algorithm(self.plan.spec, self.plan.layout)
        for name in HONEST:
            ready, told = (self.drive.observer.of(kind, name)[-1] for kind in ("ready", "member"))
            member = MemberId(bytes.fromhex(told["member"]))
            self.honest[name] = member
            address = Address(bytes.fromhex(told["address"]))
            self.endpoints[member] = Endpoint(member, address, (ready["url"],))

    async def follow(self, number: int) -> None:
        """Wait until all honest peers have applied round ``number``."""
        observer = self.drive.observer
        await self.drive.until(
            lambda: (
                {event["from"] for event in observer.of("applied", *HONEST) if event["round"] == number}
                == set(HONEST)
            ),
            f"round {number}",
        )
        told = next(event for event in observer.of("applied", *HONEST) if event["round"] == number)
        self.round, self.head = number, _hash(told["head"])
        self.state_root = _hash(told["state_root"])

    async def hear(self, kind: str, member: MemberId) -> Signed:
        """Wait for a message of the round that is on."""
        while True:
            for signed in self.heard.values():
                message = signed.message
                if (message.kind, message.member, message.previous_head) == (kind, member, self.head):
                    return signed
            self.news.clear()
            await self.news.wait()

    # Saying things

    def header(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "round": self.round + 1,
            "previous_head": self.head,
            "member": self.member,
        }

    def seal(self, message: Message) -> Signed:
        return self.identity.seal(message)

    def payload(self, scale: float = 1e-3) -> bytes:
        """An encoded pseudo-gradient of noise."""

        def draw() -> tuple[torch.Tensor, ...]:
            return tuple(
                torch.randn(spec.shape, generator=self.rng) * scale for spec in self.plan.layout.tensors
            )

        return self.algorithm.encode(draw(), Moments(draw(), tuple(x.square() for x in draw()))).payload

    def work(self, payload: bytes, opens_with: bytes | None = None, **changes: Any) -> Work:
        """An update over ``payload``, its ciphertext in the own store; ``opens_with`` is the key that it commits to."""
        bound = binding(self.run, self.round + 1, self.head, self.member)
        key = bytes(torch.randint(0, 256, (32,), generator=self.rng).tolist())
        blob = self.store.put(seal(payload, key, bound))
        key = opens_with or key
        update = Update(
            **self.header(),
            version=UPDATE_VERSION,
            base_round=self.round,
            base_state_root=self.state_root,
            fragment=0,
            tau=0,
            inner_steps=self.plan.inner.inner_steps,
            tokens=self.plan.inner.inner_steps * self.plan.inner.step_tokens,
            codec=self.plan.codec,
            blob_hash=blob.hash,
            blob_size=blob.size,
            key_hash=key_hash(key, bound),
            trace_root=ZERO_HASH,
        )
        return Work(self.seal(replace(update, **changes)), blob, key)

    def reveal(self, work: Work, **changes: Any) -> Signed:
        return self.seal(replace(Key(**self.header(), update=work.id, key=work.key), **changes))

    async def have(self, work: Work) -> Signed:
        """A Have that names the own update and what the honest announced, so that it makes nobody miss the round.

        Not in round 1, where nobody may have known yet to whom to announce.
        """
        names = {work.id}
        if self.round > 0:
            names |= {(await self.hear("update", member)).id for member in self.honest.values()}
        return self.seal(Have(**self.header(), updates=tuple(sorted(names))))

    def body(self, **changes: Any) -> Body:
        return replace(
            Body(self.run, self.round + 1, self.head, ZERO_HASH, self.state_root, root_of_trainers(0, ())),
            **changes,
        )

    async def send(
        self,
        messages: Iterable[Signed | bytes],
        blobs: Sequence[BlobRef] = (),
        to: Sequence[str] = HONEST,
        endpoints: tuple[bytes, ...] | None = None,
    ) -> None:
        """Deliver a packet to honest peers."""
        raws = tuple(each.raw if isinstance(each, Signed) else each for each in messages)
        told = (self.record,) if endpoints is None else endpoints
        packet = encode_packet(Packet(raws, tuple(self.store.read(blob) for blob in blobs), told))
        for name in to:
            await self.transport.send(self.endpoints[self.honest[name]], packet)

    async def everything(self, work: Work, to: Sequence[str] = HONEST, *, key: bool = True) -> None:
        """An update with its ciphertext, its key and a Have that names it."""
        said = [work.signed, *([self.reveal(work)] if key else []), await self.have(work)]
        await self.send(said, (work.blob,), to)

    # What came of it

    def refusals(self, name: str) -> list[str]:
        """The rules by which a peer refused something, in order."""
        return [event["rule"] for event in self.drive.observer.of("refused", name)]

    async def refused(self, rule: str, times: int = 1) -> None:
        """Wait until every honest peer has named ``rule`` so often."""
        await self.drive.until(
            lambda: all(self.refusals(name).count(rule) >= times for name in HONEST),
            f"the refusal {rule}, of {[self.refusals(name) for name in HONEST]}",
        )


@dataclass
class HostileDrive(Drive):
    """A local run whose fourth peer is ``hostile``."""

    hostile: Hostile = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.hostile = Hostile(self.folder.path / "hostile", self)

    async def __aexit__(self, *details: object) -> None:
        await super().__aexit__(*details)
        await self.hostile.close()

    async def _start(self, name: str, arguments: list[str], *rest: Any) -> Child:
        if name != NAME:
            return await super()._start(name, arguments, *rest)
        link = arguments[arguments.index("--link") + 1]
        self.hostile.tasks.append(asyncio.create_task(self.hostile.live(link)))
        return self.hostile.child


def _hash(text: str) -> Hash:
    return Hash(bytes.fromhex(text.removeprefix("0x")))
