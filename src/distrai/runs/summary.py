"""What came of a run, computed from the event logs, the certified lists and the ledger: nothing is counted twice.

Works for a run that was stopped, resumed or is still going on; what only a finished run has (``Final``) is handed in.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any

from distrai.ledger.interface import RunState
from distrai.peer.learner import read_manifest
from distrai.peer.link import Link
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import MemberId
from distrai.protocol.recipe import ResolvedRecipe
from distrai.runs.archive import Archive, NothingPublished
from distrai.runs.folder import RunFolder
from distrai.runs.logs import PeerLog, read_log
from distrai.runs.payday import Payday
from distrai.runs.telling import TRUST
from distrai.runs.timing import Timing

BYTES_PER_PARAMETER = 4
"""What data-parallel training sends for every parameter at every step."""


@dataclass(frozen=True)
class Final:
    """What is measured after the last round: held-out loss in nats per token, and bits per byte of text."""

    loss_start: float
    loss_end: float
    bits_per_byte_start: float
    bits_per_byte_end: float
    samples: int
    model_path: str | None = None
    sample_prompt: str = ""
    sample: str = ""
    accuracy_start: float | None = None
    """Of pairs: the share in which the chosen answer gained more than the other, on the model at the start."""
    accuracy_end: float | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The content of ``summary.json``. Bytes are means over the peers, times are seconds; None: not known (yet).

    ``params`` are those that are trained and exchanged, ``params_total`` those of the model, an adapter not counted.
    ``run_id`` is the genesis head, which commits to chain, registry, run number and recipe.
    ``payload_up_per_peer`` is each certified update once; ``bytes_up_per_peer`` is all that passed a socket.
    ``bytes_ddp_per_peer`` is 4 bytes for every parameter and inner step.
    ``compute_utilisation`` is the share of the rounds' time that the peers of their certificates spent in inner steps.
    ``round_overhead_s`` is the median over rounds of: certificate applied, minus the last inner step of its peers.
    ``round_overhead_cpu_s`` is the median over peers and rounds of the CPU seconds spent beside training.
    ``earned`` and ``claimed`` are whole tokens; ``money`` is None for a run that pays nothing and asks for no stakes.
    """

    run_id: str
    name: str
    preset: str
    inner_state: str
    params: int
    params_total: int
    peers: int
    rounds: int
    rounds_planned: int
    finished: bool
    tokens: int
    loss_start: float | None
    loss_end: float | None
    bits_per_byte_start: float | None
    bits_per_byte_end: float | None
    accuracy_start: float | None
    accuracy_end: float | None
    evaluation_samples: int
    payload_up_per_peer: int
    bytes_up_per_peer: int
    bytes_down_per_peer: int
    bytes_ddp_per_peer: int
    traffic_per_peer: dict[str, dict[str, int]]
    compute_utilisation: float | None
    round_overhead_s: float | None
    round_overhead_cpu_s: float | None
    round_s: float | None
    wall_s: float
    certificates: int
    empty_rounds: int
    roll_calls: int
    updates: int
    updates_of: dict[str, int]
    tokens_of: dict[str, int]
    refused: dict[str, int]
    state_root: str
    head: str
    roots_agree: bool
    ledger: dict[str, Any]
    recipe_hash: str
    corpus_hash: str
    model_path: str | None
    sample: dict[str, str] | None
    earned: dict[str, str] = field(default_factory=dict)
    claimed: dict[str, str] = field(default_factory=dict)
    money: dict[str, Any] | None = None
    trust: str = TRUST
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Facts:
    """All that a summary is computed from."""

    folder: RunFolder
    resolved: ResolvedRecipe
    logs: Sequence[PeerLog]
    lists: Sequence[tuple[int, CertifiedList]]
    ledger: RunState
    genesis_head: bytes
    roll_calls: int = 0

    @classmethod
    def gather(cls, folder: RunFolder, ledger: RunState) -> "Facts":
        """Read a run's folder. Raises NoRun, NothingPublished, UnreadableLog."""
        info, archive = folder.read(), Archive(folder.archive)
        genesis = archive.genesis().genesis
        if "0x" + genesis.recipe_hash.hex() != info.recipe_hash:
            raise NothingPublished(f"{archive.public.genesis_path} is of another run: restore the folder")
        logs = [read_log(folder.peer(number)) for number in range(info.peers)]
        lists = [(number, item) for number, item in archive.lists() if number <= ledger.round]
        called = archive.roll_calls(ledger.round)
        return cls(folder, archive.recipe(genesis.recipe_hash), logs, lists, ledger, genesis.head, called)


def _params_total(resolved: ResolvedRecipe, archive: Archive) -> int | None:
    """Parameters of the whole model where that says more than its layout; None where everything is trained."""
    if resolved.base is None:
        return None
    return read_manifest(archive.blobs, resolved.base).parameters


def summarise(facts: Facts, final: Final | None = None, payday: Payday | None = None) -> Summary:
    """The summary; without ``final`` losses are those that the peers looked at on the way, on fewer samples."""
    info, recipe = facts.folder.read(), facts.resolved.recipe
    work, timing = _Work.of(facts.lists), Timing(facts.logs, facts.ledger.round)
    params = sum(math.prod(shape) for _, shape in facts.resolved.layout)
    seen = final or _seen_on_the_way(facts.logs)
    peers = info.peers
    return Summary(
        run_id="0x" + facts.genesis_head.hex(),
        name=info.name,
        preset=info.preset,
        inner_state=str(recipe.algorithm.inner_state),
        params=params,
        params_total=_params_total(facts.resolved, Archive(facts.folder.archive)) or params,
        peers=peers,
        rounds=facts.ledger.round,
        rounds_planned=info.rounds,
        finished=final is not None and facts.ledger.round >= info.rounds,
        tokens=work.tokens,
        loss_start=seen.loss_start if seen else None,
        loss_end=seen.loss_end if seen else None,
        bits_per_byte_start=seen.bits_per_byte_start if seen else None,
        bits_per_byte_end=seen.bits_per_byte_end if seen else None,
        accuracy_start=seen.accuracy_start if seen else None,
        accuracy_end=seen.accuracy_end if seen else None,
        evaluation_samples=seen.samples if seen else 0,
        payload_up_per_peer=round(work.payload / peers),
        bytes_up_per_peer=round(fmean(log.bytes("up") for log in facts.logs)),
        bytes_down_per_peer=round(fmean(log.bytes("down") for log in facts.logs)),
        bytes_ddp_per_peer=round(BYTES_PER_PARAMETER * params * work.steps / peers),
        traffic_per_peer=_mean_traffic(facts.logs),
        compute_utilisation=timing.utilisation(),
        round_overhead_s=_median(timing.overheads()),
        round_overhead_cpu_s=_median(timing.cpu_overheads()),
        round_s=_median(timing.durations()),
        wall_s=timing.wall_s,
        certificates=facts.ledger.round - facts.roll_calls,
        empty_rounds=sum(not listed.entries for _, listed in facts.lists),
        roll_calls=facts.roll_calls,
        updates=sum(work.updates.values()),
        updates_of={_name(facts.logs, member): count for member, count in sorted(work.updates.items())},
        tokens_of={_name(facts.logs, member): count for member, count in sorted(work.tokens_of.items())},
        refused=dict(sorted(sum((log.refused for log in facts.logs), Counter()).items())),
        state_root="0x" + facts.ledger.state_root.hex(),
        head="0x" + facts.ledger.head.hex(),
        roots_agree=roots_agree(facts.logs, facts.ledger),
        ledger=_ledger(facts.folder.link(), facts.ledger),
        recipe_hash=info.recipe_hash,
        corpus_hash="0x" + facts.resolved.corpus.hash.hex(),
        model_path=final.model_path if final else None,
        sample={"prompt": final.sample_prompt, "text": final.sample} if final and final.sample else None,
        earned=_amounts(facts.logs, payday, payday.earned) if payday else {},
        claimed=_amounts(facts.logs, payday, payday.claimed) if payday else {},
        money=payday.money if payday else None,
        warnings=_warnings(facts, final),
    )


def roots_agree(logs: Iterable[PeerLog], ledger: RunState) -> bool:
    """Whether, round by round, all peers report one head and one state root, and the ledger's at its round."""
    reported: dict[int, set[tuple[bytes, bytes]]] = {}
    if ledger.started and ledger.round:
        reported[ledger.round] = {(ledger.head, ledger.state_root)}
    for log in logs:
        for number, applied in log.applied.items():
            reported.setdefault(number, set()).add((applied.head, applied.state_root))
    return all(len(roots) == 1 for roots in reported.values())


@dataclass(frozen=True)
class _Work:
    """What the certified lists say was done."""

    tokens: int
    steps: int
    payload: int
    updates: Counter[MemberId]
    tokens_of: Counter[MemberId]

    @classmethod
    def of(cls, lists: Iterable[tuple[int, CertifiedList]]) -> "_Work":
        updates = [update for _, listed in lists for update in listed.updates]
        tokens_of: Counter[MemberId] = Counter()
        for update in updates:
            tokens_of[update.member] += update.tokens
        return cls(
            sum(update.tokens for update in updates),
            sum(update.inner_steps for update in updates),
            sum(update.blob_size for update in updates),
            Counter(update.member for update in updates),
            tokens_of,
        )


def _seen_on_the_way(logs: Iterable[PeerLog]) -> Final | None:
    seen = {number: item for log in logs for number, item in log.evaluated.items()}
    if not seen:
        return None
    first, last = seen[min(seen)], seen[max(seen)]
    return Final(
        first.loss,
        last.loss,
        first.bits_per_byte,
        last.bits_per_byte,
        last.samples,
        accuracy_start=first.accuracy,
        accuracy_end=last.accuracy,
    )


def _mean_traffic(logs: Sequence[PeerLog]) -> dict[str, dict[str, int]]:
    total: dict[str, Counter[str]] = {"up": Counter(), "down": Counter()}
    for log in logs:
        for direction, purposes in log.traffic.items():
            total[direction].update(purposes)
    return {
        way: {name: round(count / len(logs)) for name, count in all_.items()} for way, all_ in total.items()
    }


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _name(logs: Iterable[PeerLog], member: MemberId) -> str:
    return next((log.name for log in logs if log.member == member), member.hex()[:12])


def _amounts(logs: Sequence[PeerLog], payday: Payday, units: Mapping[MemberId, int]) -> dict[str, str]:
    return {_name(logs, member): payday.amount(amount) for member, amount in sorted(units.items())}


def _ledger(link: Link, state: RunState) -> dict[str, Any]:
    return {
        "chain_id": link.chain_id,
        "registry": "0x" + link.registry.hex(),
        "run": link.run,
        "owner": "0x" + state.owner.hex(),
    }


def _warnings(facts: Facts, final: Final | None) -> list[str]:
    found = []
    if not roots_agree(facts.logs, facts.ledger):
        found.append("the peers do not all report the ledger's state root: run `distrai replay`")
    if (held := len(facts.lists) + facts.roll_calls) < facts.ledger.round:
        found.append(f"the archive holds the lists of {held} of {facts.ledger.round} rounds")
    if final is None:
        found.append("the losses are those that the peers looked at on the way, on few samples")
    if restarted := [log.name for log in facts.logs if len(log.sessions) > 1]:
        found.append(f"peers were started again: {', '.join(restarted)}")
    return found
