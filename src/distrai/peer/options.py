"""How a peer is to be run."""

from dataclasses import dataclass
from pathlib import Path

from distrai.peer.link import Link


@dataclass(frozen=True)
class PeerOptions:
    """What whoever starts a peer says.

    ``archive``: keep everything, publish certificates, be a bootstrap address of the run. ``snapshot``: begin from a
    snapshot where the run is under way, and take a newer one if what follows is not kept any more. ``leave_on_stop``: a
    signal means to leave the run in order; else the peer just stops, and goes on when it is started again.

    ``host`` and ``port``: where to listen; an empty host is the own address towards the ledger, port 0 any free one.
    ``advertise``: what to tell others instead (a host, host:port or URL). ``local``: whether others may be in private
    networks; None: if the ledger is. Off loopback everything is TLS, with a key that the node key certifies.
    """

    home: Path
    link: Link
    archive: bool = False
    device: str = "auto"
    host: str = ""
    port: int = 0
    advertise: str = ""
    local: bool | None = None
    snapshot: bool = False
    leave_on_stop: bool = False
