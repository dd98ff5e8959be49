"""What is known of a job, and what its attempts may take: plain data, kept in its folder by ``store.py``."""

from dataclasses import dataclass, field, replace
from typing import Any

FORMAT = 1
ENDED = ("done", "failed", "stopped")


@dataclass(frozen=True)
class Limits:
    """What an attempt may take: seconds in all (0: any), seconds to save and end when asked, memory (0: any).

    ``sandbox``: whether it is confined where that can be done; ``network``: whether it may use the network.
    """

    timeout_s: float = 0.0
    grace_s: float = 60.0
    memory_bytes: int = 0
    log_bytes_max: int = 64 << 20
    sandbox: bool = True
    network: bool = True


@dataclass(frozen=True)
class JobState:
    """What is known of a job. ``status``: new, preparing, running, done, failed, stopped. Times are UTC."""

    job_id: str
    name: str
    kind: str
    created_at: str
    script: str = ""
    """Name of the script in ``script/``; empty if the job is a command."""
    script_hash: str = ""
    command: list[str] = field(default_factory=list)
    base: str = ""
    """The folder that the user stood in."""
    status: str = "new"
    why: str = ""
    attempt: int = 0
    seconds: float = 0.0
    """Of all attempts together."""
    ended_at: str = ""
    environment: str = ""
    limits: Limits = field(default_factory=Limits)
    passed: list[str] = field(default_factory=list)
    """Names of the variables that the script gets beside the usual ones; never their values."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """The newest value of each."""
    step: int = 0
    artifacts: list[dict[str, str]] = field(default_factory=list)
    model: str = ""
    """The folder of the model, as seen from ``out/``."""
    record: dict[str, Any] | None = None
    """Where its training record is, once there is one."""
    saved: str = ""
    """Where the finished model was saved."""
    format: int = FORMAT

    @property
    def has_ended(self) -> bool:
        """Whether nothing goes on."""
        return self.status in ENDED

    def with_(self, **changes: Any) -> "JobState":
        """The same with changes."""
        return replace(self, **changes)
