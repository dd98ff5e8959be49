"""A scenario that is drawn from its seed: any mixture of everything that can go wrong at once."""

from random import Random

from distrai.simulation.contract import Limits
from distrai.simulation.scenario import Churn, Crashes, LedgerFaults, Links, Loss, Scenario

PEERS = (3, 4, 4, 5, 5, 6, 7, 7, 8, 10)
STALL_S = 60


def wild(seed: int) -> Scenario:
    """The scenario named "wild" of this seed."""
    random = Random(seed)  # noqa: S311 - reproducible on purpose
    peers = random.choice(PEERS)
    liars = random.randint(0, (peers - 1) // 3)
    losses = _losses(random, peers, liars)
    faults_s = random.uniform(20, 50 if peers < 7 else 30) + (2.5 * STALL_S if losses else 0)
    return Scenario(
        "wild",
        peers=peers,
        liars=("any",) * liars,
        limits=_limits(random, peers),
        min_updates=random.choice((1, 1, 2)),
        slow_peers=random.choice((0, 0, 0, 1)),
        links=_links(random),
        crashes=_crashes(random),
        ledger=_ledger(random),
        churn=_churn(random, peers),
        losses=losses,
        blob_failures=random.choice((0.0, 0.0, 0.1)),
        inline_blobs=random.random() < 0.5,
        faults_s=faults_s,
        may_call_roll=True,
        staleness=random.choice((0, 0, 0, 1, 2, 4)),
        # With less than two thirds liars and a few fast ones may take the seats of the rest (adr/0008).
        quorum=random.choice((0, -(-2 * peers // 3), -(-2 * peers // 3), peers)),
    )


def _limits(random: Random, peers: int) -> Limits:
    return Limits(
        min_seats=random.choice((1, 1, max(1, peers // 2), peers)),
        max_seats=random.choice((64, peers + 1)),
        stall_seconds=STALL_S,
        epoch_rounds=random.choice((2, 4, 8)),
    )


def _links(random: Random) -> Links:
    return Links(
        delay_s=random.choice(((0.01, 0.1), (0.02, 0.4), (0.05, 1.0))),
        lost=random.choice((0.0, 0.02, 0.1)),
        repeated=random.choice((0.0, 0.05)),
        split_every_s=random.choice((0.0, 0.0, 12.0)),
        split_half=random.random() < 0.3,
        flap_s=random.choice((0.0, 1.0)),
    )


def _crashes(random: Random) -> Crashes:
    return Crashes(
        every_s=random.choice((0.0, 0.0, 20.0, 60.0)),
        per_effect=random.choice((0.0, 0.0, 0.0005)),
        together_every_s=random.choice((0.0, 0.0, 20.0)),
        log_lost=random.choice((0.0, 0.0, 0.5)),
    )


def _ledger(random: Random) -> LedgerFaults:
    return LedgerFaults(
        block_s=random.choice((0.5, 1.0, 2.0, 4.0)),
        away_every_s=random.choice((0.0, 0.0, 20.0)),
        lost=random.choice((0.0, 0.1, 0.3)),
        lag_blocks=random.choice((0, 0, 2)),
        reorg_every_s=random.choice((0.0, 8.0, 20.0)),
        reorg_blocks=random.choice(((1, 3), (1, 6))),
        reorg_lost=random.choice((0.0, 0.3)),
    )


def _churn(random: Random, peers: int) -> Churn:
    guests = random.choice(((), ("silent",) * 5, ("silent", "flapping", "rotating")))
    liars = random.choice((0, 0, 1)) if peers > 3 else 0
    return Churn(
        joiners=random.choice((0, 0, 1, 3)),
        lying_joiners=("any",) * liars,
        guests=guests,
        leave_every_s=random.choice((0.0, 0.0, 25.0)),
        rotate_every_s=random.choice((0.0, 0.0, 15.0)),
    )


def _losses(random: Random, peers: int, liars: int) -> tuple[Loss, ...]:
    """No more than leave honest seats enough for a roll call."""
    if random.random() < 0.75:
        return ()
    most = (peers - liars) / peers - 0.5
    return (Loss(random.uniform(5, 25), random.uniform(0, max(0.0, most))),)
