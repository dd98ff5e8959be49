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
    """

    home: Path
    link: Link
    archive: bool = False
    device: str = "auto"
    host: str = "127.0.0.1"
    snapshot: bool = False
    leave_on_stop: bool = False
