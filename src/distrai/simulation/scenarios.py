"""The kinds of networks that are tried with every change."""

from distrai.simulation.contract import Limits
from distrai.simulation.member_scenarios import LOSSY, MEMBER_SCENARIOS
from distrai.simulation.scenario import Crashes, LedgerFaults, Links, Scenario
from distrai.simulation.stale_scenarios import STALE_SCENARIOS

_FIRST = (
    Scenario("calm", faults_s=0, rounds=3),
    Scenario("lossy", peers=5, links=LOSSY, blob_failures=0.2, inline_blobs=False),
    Scenario("slow", peers=5, slow_peers=1, links=Links(delay_s=(0.05, 0.3))),
    Scenario("crashes", peers=5, crashes=Crashes(every_s=10, per_effect=0.005), limits=Limits(min_seats=5)),
    Scenario(
        "lost-logs",
        peers=5,
        crashes=Crashes(every_s=10, log_lost=1.0, down_s=(0.2, 4)),
        limits=Limits(min_seats=5),
    ),
    Scenario(
        "power-cuts",
        crashes=Crashes(together_every_s=6, per_effect=0.004, down_s=(0.2, 3)),
        links=Links(lost=0.02),
        limits=Limits(min_seats=4),
    ),
    Scenario(
        "splits",
        peers=5,
        links=Links(split_every_s=6, split_s=(2, 10)),
        faults_s=40,
        limits=Limits(min_seats=5),
    ),
    Scenario("ledger-away", ledger=LedgerFaults(away_every_s=6, away_s=(2, 8), lost=0.3), faults_s=30),
    Scenario("silent", liars=("silent",), limits=Limits(min_seats=4), faults_s=10),
    Scenario("keyless", liars=("never-reveals",), limits=Limits(min_seats=4), links=Links(lost=0.03)),
    Scenario("equivocation", liars=("equivocates",), limits=Limits(min_seats=4), links=Links(lost=0.03)),
    Scenario(
        "two-haves",
        liars=("two-haves",),
        limits=Limits(min_seats=4),
        links=Links(lost=0.03),
        inline_blobs=False,
    ),
    Scenario("signs-twice", liars=("signs-twice",), limits=Limits(min_seats=4)),
    Scenario("copies", liars=("copies",), limits=Limits(min_seats=4)),
    Scenario("not-finite", liars=("not-finite",), limits=Limits(min_seats=4)),
    Scenario("withholds", liars=("withholds",), limits=Limits(min_seats=4), inline_blobs=True),
    Scenario("garbage", liars=("garbage",), limits=Limits(min_seats=4), links=Links(lost=0.03)),
    Scenario("false-haves", liars=("false-haves",), limits=Limits(min_seats=4), inline_blobs=False),
    Scenario(
        "never-signs", peers=5, liars=("never-signs",), limits=Limits(min_seats=5), links=Links(lost=0.03)
    ),
    Scenario("many-bodies", peers=7, liars=("many-bodies", "two-haves"), limits=Limits(min_seats=7)),
    Scenario("omits", peers=5, liars=("omits",), limits=Limits(min_seats=5), links=Links(lost=0.05)),
    Scenario("bad-proposals", liars=("proposes-badly",), limits=Limits(min_seats=4), links=Links(lost=0.05)),
    Scenario(
        "everything",
        peers=7,
        liars=("equivocates", "two-haves"),
        limits=Limits(min_seats=7),
        links=Links(delay_s=(0.02, 0.4), lost=0.05, repeated=0.02, split_every_s=15),
        crashes=Crashes(every_s=40, per_effect=0.0005),
        ledger=LedgerFaults(away_every_s=20, lost=0.1),
        blob_failures=0.1,
        faults_s=40,
    ),
)

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario for scenario in (*_FIRST, *MEMBER_SCENARIOS, *STALE_SCENARIOS)
}
