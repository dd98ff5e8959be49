"""Whether this machine can take part in one run: its ledger, its peers, ports and addresses, keys, disk."""

import asyncio
import random
import secrets
import shutil
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from distrai.ledger.errors import LedgerError, LedgerRefused, WrongChain
from distrai.ledger.keys import KeyFileError, NodeKey, key_lock, load_key
from distrai.ledger.locks import FileLock, InUse
from distrai.ledger.reader import LedgerReader
from distrai.ledger.rpc import Patience, Rpc, read_bytes, read_quantity
from distrai.network.http import HttpTransport
from distrai.network.interface import AskFailed, Endpoint
from distrai.network.store import BlobStore
from distrai.peer.circle import History
from distrai.peer.feed import LedgerFeed
from distrai.peer.keyring import FIRST
from distrai.peer.link import Link
from distrai.peer.reach import is_private, own_address_towards
from distrai.peer.snapshots import DOCUMENT, decode_shown
from distrai.protocol.errors import ProtocolError
from distrai.protocol.ledger_events import RunOpened
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from distrai.runs.findings import Finding
from distrai.runs.telling import size

ASK_S = 10.0
CONNECT_S = 5.0
PEERS_ASKED_MAX = 16


@dataclass(frozen=True)
class Place:
    """Where this peer is to be: ``host`` empty, ``port`` 0 and ``advertise`` empty are as `distrai join` has them."""

    home: Path
    host: str = ""
    port: int = 0
    advertise: str = ""


def check_up(link: Link, place: Place) -> list[Finding]:
    """Look at everything that stands between this machine and a run. Never raises for what it finds."""
    here = [_port(link, place), _advertised(link, place), *_keys(place.home)]
    there, snapshot = asyncio.run(_outside(link))
    return [*here, *there, _disk(place.home, snapshot)]


# Ports


def _port(link: Link, place: Place) -> Finding:
    """Whether one can listen where a peer would."""
    try:
        host = place.host or own_address_towards(link.rpc)
        with _listening(host, place.port) as server:
            port = server.getsockname()[1]
            return Finding("port", True, f"one can listen at {host}, port {place.port or f'any ({port})'}")
    except (OSError, ValueError) as error:
        where = f"{place.host or 'the address that faces the ledger'}, port {place.port or 'any'}"
        advice = (
            "end what uses that port (or the peer that runs already), or choose another --host and --port"
        )
        return Finding("port", False, f"one cannot listen at {where}: {error}", advice)


def _advertised(link: Link, place: Place) -> Finding:
    """Whether a connection to the address that others are told arrives at this machine."""
    what = "own address"
    try:
        host = place.host or own_address_towards(link.rpc)
        with _listening(host, place.port) as server:
            told = urlsplit(place.advertise if "://" in place.advertise else f"//{place.advertise}")
            target = (told.hostname or host, told.port or server.getsockname()[1])
            found = f"{target[0]}, port {target[1]}"
            if _arrives(server, target):
                return Finding(what, True, f"a connection to {found} arrives here")
    except (OSError, ValueError) as error:
        found = f"{place.advertise or place.host or 'this machine'}: {error}"
    advice = (
        "have your router pass that port on to this machine, open it in the firewall, or give what others can reach "
        "by --advertise; some routers do not let you call yourself: then ask somebody outside to try"
    )
    return Finding(what, False, f"a connection to {found} does not arrive here", advice)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family)


def _arrives(server: socket.socket, target: tuple[str, int]) -> bool:
    word = secrets.token_bytes(16)
    server.settimeout(CONNECT_S)
    with socket.create_connection(target, timeout=CONNECT_S) as client:
        client.sendall(word)
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(CONNECT_S)
            return accepted.recv(len(word), socket.MSG_WAITALL) == word


# Keys


def _keys(home: Path) -> list[Finding]:
    """The node key of a home that exists, and whether somebody uses it."""
    path = home / FIRST
    if not path.exists():
        return [Finding("node key", True, f"none in {home} yet: one is made when you join")]
    try:
        load_key(path)
        key = Finding("node key", True, f"{path} is readable by you alone and can be opened")
    except (KeyFileError, OSError) as error:
        key = Finding("node key", False, str(error), "restore the file from your copy, or chmod 600 it")
    try:
        with FileLock(home / "peer.lock", "this home"), key_lock(path):
            lock = Finding("home", True, f"nobody uses {home}")
    except (InUse, OSError) as error:
        lock = Finding("home", False, str(error), "end that process, or join with another --home")
    return [key, lock]


# Ledger and peers


async def _outside(link: Link) -> tuple[list[Finding], int]:
    """What can be said of ledger and peers, and the size of a snapshot (0 if that is not known)."""
    rpc = Rpc([link.rpc], Patience(call_s=ASK_S))
    reader = LedgerReader(rpc, Domain(link.chain_id, link.registry), Patience(call_s=ASK_S))
    try:
        chain = await _chain(rpc, link)
        if not chain.ok:
            return [chain], 0
        run, history = await _run(reader, link)
        if history is None:
            return [chain, run], 0
        peers, snapshot = await _peers(history, link)
        return [chain, run, *peers], snapshot
    finally:
        await reader.close()


async def _chain(rpc: Rpc, link: Link) -> Finding:
    """The ledger answers, is the chain of the link, and has the registry's code."""
    try:
        chain = read_quantity(await rpc.call("eth_chainId"))
        if chain != link.chain_id:
            raise WrongChain(f"{link.rpc} serves chain {chain}, the run is on chain {link.chain_id}")
        code = read_bytes(await rpc.call("eth_getCode", "0x" + link.registry.hex(), "latest"))
        if not code:
            raise WrongChain(f"chain {chain} has no contract at 0x{link.registry.hex()}")
    except WrongChain as error:
        return Finding("ledger", False, str(error), "ask for the link again: it is of another ledger")
    except LedgerError as error:
        advice = "see that the run is going on and that its address is right; a firewall may be in between"
        return Finding("ledger", False, f"{link.rpc}: {error}", advice)
    return Finding(
        "ledger", True, f"{link.rpc} serves chain {chain} with the registry ({size(len(code))} of code)"
    )


async def _run(reader: LedgerReader, link: Link) -> tuple[Finding, History | None]:
    """The run is there, and the one that is meant."""
    try:
        state = await reader.run_state(link.run)
        history = History(await LedgerFeed(reader, link.run).next())
    except LedgerRefused:
        found = f"there is no run {link.run} on this ledger"
        return Finding("run", False, found, "ask for the link again"), None
    except LedgerError as error:
        return Finding("run", False, str(error), "try again: the ledger fell silent"), None
    opened = next((event for event in history.events if isinstance(event, RunOpened)), None)
    if link.genesis is not None and (opened is None or opened.genesis.head != link.genesis):
        found = f"run {link.run} begins with another head than the link says"
        return Finding("run", False, found, "trust neither before you asked who gave you the link"), None
    how = f"round {state.round}, {state.seats} seats" if state.started else "opened, not started yet"
    admission = "open to all" if state.limits.open_admission else "by invitation"
    return Finding("run", True, f"run {link.run}: {how}, {admission}"), history


async def _peers(history: History, link: Link) -> tuple[list[Finding], int]:
    """Those whose addresses the ledger has answer, prove their keys, and show snapshots (of this size)."""
    endpoints = history.endpoints()[:PEERS_ASKED_MAX]
    if not endpoints:
        advice = "wait until the peers are up, and try again"
        return [Finding("peers", False, "no peer has an address on the ledger", advice)], 0
    key = NodeKey.generate()
    with tempfile.TemporaryDirectory() as folder:
        transport = HttpTransport(
            BlobStore(Path(folder)),
            host="127.0.0.1",
            port=0,
            address=key.address,
            sign=key.sign,
            recover=recover,
            local=_is_private(link.rpc),
            rng=random.Random(),  # noqa: S311
        )
        try:
            answers = await asyncio.gather(*(_ask(transport, endpoint) for endpoint in endpoints))
        finally:
            await transport.close()
    failures = [answer for answer in answers if isinstance(answer, str)]
    sizes = [answer for answer in answers if isinstance(answer, int)]
    if not sizes:
        advice = (
            "see that they are up and that no firewall is in between (theirs, or yours for what goes out)"
        )
        return [Finding("peers", False, f"none of {len(endpoints)} answers: {failures[0]}", advice)], 0
    found = f"{len(sizes)} of {len(endpoints)} with an address on the ledger answer and prove their keys"
    snapshot = f"{size(max(sizes))} to download" if max(sizes) else "none yet: the run is young"
    return [Finding("peers", True, found), Finding("snapshot", True, snapshot)], max(sizes)


async def _ask(transport: HttpTransport, endpoint: Endpoint) -> int | str:
    """The size of the newest snapshot that a peer shows (0: none), or why it shows none."""
    try:
        async with asyncio.timeout(ASK_S):
            shown = decode_shown(await transport.ask(endpoint, DOCUMENT))
    except (AskFailed, ProtocolError) as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {ASK_S:g} s"
    return max((snapshot.state.size for snapshot in shown.snapshots), default=0)


def _is_private(url: str) -> bool:
    with suppress(OSError, ValueError):
        return is_private(url)
    return False


# Disk

STATES = 12
"""What a joined peer's disk holds beside the data, in states: kept heads, snapshots, updates for who catches up."""


def _disk(home: Path, snapshot: int) -> Finding:
    existing = next(path for path in (home, *home.absolute().parents) if path.exists())
    free, need = shutil.disk_usage(existing).free, STATES * snapshot + (256 << 20)
    advice = f"free some, or join with --home on a disk with {size(need)}"
    return Finding(
        "disk for the run",
        free >= need,
        f"about {size(need)} needed, {size(free)} free at {existing}",
        advice,
    )
