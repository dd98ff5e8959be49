"""Named points at which a process kills itself: ``DISTRAI_FAILPOINT=POINT:FILE``.

The point is armed while FILE exists, so that whoever drives the run says when: the first time that the process then
reaches the point it is gone, as by ``kill -9``: nothing is flushed or closed. Its last word, the point's name, goes to
standard error.
The points are set here, from outside, around public methods: the code of a peer knows nothing of them.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "DISTRAI_FAILPOINT"
BIG_BLOB_BYTES = 8 << 20
CHUNKS_RELAYED = 1
LAST_WORDS = "failpoint: "
POINTS = (
    "trained",  # the inner steps are done, the update is sealed; nothing is persisted
    "persisted-update",  # persisted, and nobody has heard of it
    "sent-update",  # the first peer has it
    "persisted-have",
    "sent-have",
    "persisted-key",
    "persisted-signature",
    "sent-signature",
    "persisted-proposal",
    "sent-proposal",
    "landed",  # a certificate is on the ledger; nothing of it is applied
    "applying",  # state, private state and list are on disk; the checkpoint is not
    "applied",  # the checkpoint is; nobody was told
    "checked-in",  # the ledger has the own check-in to a roll call, and this peer has not seen it there
    "reverting",  # the ledger was reorganised; the state on disk is still that of a head that is gone
    "reverted",  # the log says so; nothing is applied again
    "registered",  # a member, that has not joined yet
    "joining",  # the ledger has it; the peer knows nothing of it
    "relayed",  # some chunks of a big blob of another's were served, and more were asked for
)


def install() -> None:
    """Set the failpoint that the environment names."""
    setting = os.environ.get(VARIABLE)
    if setting is None:
        return
    point, _, path = setting.partition(":")
    assert point in POINTS, point
    armed = Path(path)

    def reached() -> None:
        if armed.exists():
            os.write(2, f"{LAST_WORDS}{point}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    kind = point.partition("-")[2]
    if point.startswith("persisted-"):
        _persisted(kind, reached)
    elif point.startswith("sent-"):
        _sent(kind, reached)
    else:
        _OTHERS[point](reached)


Reached = Callable[[], None]


def _kind(raw: bytes) -> str:
    from distrai.protocol.canonical import decode_canonical
    from distrai.protocol.messages import Envelope

    return decode_canonical(raw, Envelope).kind


def _around(
    owner: type,
    name: str,
    before: Callable[..., None] | None = None,
    after: Callable[..., None] | None = None,
) -> None:
    """Have ``before(*arguments)`` and ``after(result, *arguments)`` called around a method."""
    method = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **more: Any) -> Any:
        if before is not None:
            before(self, *arguments)
        result = method(self, *arguments, **more)
        if after is not None:
            after(result, self, *arguments)
        return result

    setattr(owner, name, wrapped)


def _persisted(kind: str, reached: Reached) -> None:
    from distrai.peer.store import PeerStore

    _around(
        PeerStore, "persist", after=lambda _, __, record: reached() if _kind(record.raw) == kind else None
    )


def _sent(kind: str, reached: Reached) -> None:
    from distrai.network.http import HttpTransport
    from distrai.peer.store import PeerStore
    from distrai.protocol.messages import decode_packet

    own: set[bytes] = set()
    _around(PeerStore, "persist", before=lambda _, record: own.add(record.raw))
    send = HttpTransport.send

    async def wrapped(self: HttpTransport, endpoint: Any, message: bytes, *more: Any, **others: Any) -> None:
        await send(self, endpoint, message, *more, **others)
        if any(raw in own and _kind(raw) == kind for raw in decode_packet(message).envelopes):
            reached()

    HttpTransport.send = wrapped  # type: ignore[method-assign]


def _trained(reached: Reached) -> None:
    from distrai.peer.worker import Worker

    _around(Worker, "train", after=lambda result, *_: reached() if result is not None else None)


def _landed(reached: Reached) -> None:
    from distrai.peer.worker import Worker

    _around(Worker, "apply", before=lambda *_: reached())


def _applying(reached: Reached) -> None:
    from distrai.peer.log import EventLog
    from distrai.peer.records import APPLIED

    _around(EventLog, "append", before=lambda _, kind, *__: reached() if kind == APPLIED else None)


def _applied(reached: Reached) -> None:
    from distrai.peer.worker import Worker

    _around(Worker, "apply", after=lambda *_: reached())


def _reverting(reached: Reached) -> None:
    from distrai.peer.worker import Worker

    _around(Worker, "revert", before=lambda *_: reached())


def _reverted(reached: Reached) -> None:
    from distrai.peer.store import PeerStore

    _around(PeerStore, "revert", after=lambda *_: reached())


def _on_ledger(method: str) -> Callable[[Reached], None]:
    """After a transaction of the own is mined."""

    def install_it(reached: Reached) -> None:
        from distrai.ledger.client import LedgerClient

        send = getattr(LedgerClient, method)

        async def wrapped(self: LedgerClient, *arguments: Any, **more: Any) -> Any:
            result = await send(self, *arguments, **more)
            reached()
            return result

        setattr(LedgerClient, method, wrapped)

    return install_it


def _relayed(reached: Reached) -> None:
    from distrai.network.store import BlobStore

    fetched: set[bytes] = set()
    served: list[bytes] = []

    def serve(_store: BlobStore, hash_: bytes, _index: int) -> None:
        if hash_ in fetched:
            served.append(hash_)
            if len(served) > CHUNKS_RELAYED:
                reached()

    _around(
        BlobStore,
        "begin",
        before=lambda _, blob, __: fetched.add(blob.hash) if blob.size > BIG_BLOB_BYTES else None,
    )
    _around(BlobStore, "read_chunk", before=serve)


_OTHERS: dict[str, Callable[[Reached], None]] = {
    "trained": _trained,
    "landed": _landed,
    "applying": _applying,
    "applied": _applied,
    "checked-in": _on_ledger("check_in"),
    "reverting": _reverting,
    "reverted": _reverted,
    "registered": _on_ledger("register"),
    "joining": _on_ledger("join"),
    "relayed": _relayed,
}
