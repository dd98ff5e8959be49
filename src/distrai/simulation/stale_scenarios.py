"""Runs whose rounds do not wait for everybody: updates may be listed late, and a round closes with a quorum of them."""

from dataclasses import replace

from distrai.simulation.contract import Limits
from distrai.simulation.member_scenarios import LOSSY
from distrai.simulation.scenario import Churn, Crashes, LedgerFaults, Links, Loss, Scenario

_REORGS = LedgerFaults(reorg_every_s=8, lag_blocks=2)

STALE_SCENARIOS = (
    Scenario("stale-calm", staleness=2, quorum=2, faults_s=0, rounds=8),
    Scenario(
        "stale-slow", peers=5, staleness=4, quorum=2, slow_peers=1, slow_factor=8.0, faults_s=0, rounds=14
    ),
    Scenario("stale-one", staleness=1, quorum=1, faults_s=0, rounds=10),
    Scenario(
        "stale-lossy",
        peers=5,
        staleness=3,
        quorum=2,
        links=LOSSY,
        blob_failures=0.2,
        inline_blobs=False,
        limits=Limits(min_seats=5),
        rounds=6,
    ),
    Scenario(
        "stale-crashes",
        peers=5,
        staleness=2,
        quorum=3,
        slow_peers=1,
        crashes=Crashes(every_s=10, per_effect=0.005, log_lost=0.3),
        limits=Limits(min_seats=5),
        rounds=6,
    ),
    Scenario(
        "stale-power-cuts",
        staleness=3,
        quorum=2,
        crashes=Crashes(together_every_s=6, per_effect=0.004, down_s=(0.2, 3)),
        links=Links(lost=0.02),
        limits=Limits(min_seats=4),
    ),
    Scenario(
        "stale-splits",
        peers=5,
        staleness=2,
        quorum=2,
        links=Links(split_every_s=6, split_s=(2, 10)),
        faults_s=40,
        limits=Limits(min_seats=5),
    ),
    Scenario("stale-reorgs", staleness=2, quorum=2, slow_peers=1, ledger=_REORGS, faults_s=45),
    Scenario(
        "stale-deep-reorgs",
        peers=5,
        staleness=4,
        quorum=1,
        ledger=LedgerFaults(reorg_every_s=12, reorg_blocks=(4, 9), reorg_lost=0.4, lag_blocks=3),
        links=Links(lost=0.03),
        limits=Limits(min_seats=5),
        faults_s=50,
    ),
    Scenario(
        "stale-churn",
        peers=5,
        staleness=2,
        quorum=3,
        slow_peers=1,
        churn=Churn(joiners=3, join_every_s=8, leave_every_s=20, rotate_every_s=15),
        limits=Limits(min_seats=3, max_seats=6),
        faults_s=60,
        rounds=10,
    ),
    Scenario(
        "stale-churn-and-reorgs",
        peers=5,
        staleness=3,
        quorum=2,
        churn=Churn(joiners=2, join_every_s=8, leave_every_s=25, rotate_every_s=12),
        ledger=replace(_REORGS, reorg_every_s=12),
        crashes=Crashes(every_s=60),
        limits=Limits(min_seats=3, max_seats=6),
        faults_s=50,
        rounds=9,
    ),
    Scenario(
        "stale-liars",
        peers=7,
        liars=("any", "any"),
        staleness=2,
        quorum=3,
        limits=Limits(min_seats=7),
        links=Links(lost=0.03),
        rounds=5,
    ),
    Scenario(
        "stale-many-at-once",
        peers=7,
        liars=("many-at-once", "lists-again"),
        staleness=3,
        quorum=2,
        limits=Limits(min_seats=7),
        links=Links(lost=0.02),
        rounds=8,
    ),
    Scenario(
        "stale-keyless", liars=("never-reveals",), staleness=2, quorum=2, limits=Limits(min_seats=4), rounds=6
    ),
    Scenario(
        "stale-liars-and-reorgs",
        peers=7,
        liars=("any", "many-at-once"),
        staleness=3,
        quorum=3,
        ledger=replace(_REORGS, reorg_every_s=12),
        links=Links(lost=0.03),
        limits=Limits(min_seats=7),
        faults_s=40,
    ),
    Scenario(
        "stale-mass-loss",
        peers=6,
        staleness=2,
        quorum=2,
        losses=(Loss(12.0, 0.5),),
        limits=Limits(stall_seconds=60),
        faults_s=14,
        rounds=6,
        may_call_roll=True,
    ),
)
