"""The kinds of networks that are tried with every change."""

from distrai.simulation.scenario import Crashes, LedgerFaults, Links, Scenario

_LOSSY = Links(delay_s=(0.02, 0.6), lost=0.1, repeated=0.05)

_ALL = (
    Scenario("calm", faults_s=0, rounds=3),
    Scenario("lossy", peers=5, links=_LOSSY, blob_failures=0.2, inline_blobs=False),
    Scenario("slow", peers=5, slow_peers=1, links=Links(delay_s=(0.05, 0.3))),
    Scenario("crashes", peers=5, crashes=Crashes(every_s=10, per_effect=0.005), min_seats=5),
    Scenario("lost-logs", peers=5, crashes=Crashes(every_s=10, log_lost=1.0, down_s=(0.2, 4)), min_seats=5),
    Scenario(
        "power-cuts",
        crashes=Crashes(together_every_s=6, per_effect=0.004, down_s=(0.2, 3)),
        links=Links(lost=0.02),
        min_seats=4,
    ),
    Scenario("splits", peers=5, links=Links(split_every_s=6, split_s=(2, 10)), faults_s=40, min_seats=5),
    Scenario("ledger-away", ledger=LedgerFaults(away_every_s=6, away_s=(2, 8), lost=0.3), faults_s=30),
    Scenario("silent", liars=("silent",), min_seats=4, faults_s=10),
    Scenario("keyless", liars=("never-reveals",), min_seats=4, links=Links(lost=0.03)),
    Scenario("equivocation", liars=("equivocates",), min_seats=4, links=Links(lost=0.03)),
    Scenario("two-haves", liars=("two-haves",), min_seats=4, links=Links(lost=0.03), inline_blobs=False),
    Scenario("signs-twice", liars=("signs-twice",), min_seats=4),
    Scenario("copies", liars=("copies",), min_seats=4),
    Scenario("not-finite", liars=("not-finite",), min_seats=4),
    Scenario("withholds", liars=("withholds",), min_seats=4, inline_blobs=True),
    Scenario("garbage", liars=("garbage",), min_seats=4, links=Links(lost=0.03)),
    Scenario("bad-proposals", liars=("proposes-badly",), min_seats=4, links=Links(lost=0.05)),
    Scenario(
        "everything",
        peers=7,
        liars=("equivocates", "two-haves"),
        min_seats=7,
        links=Links(delay_s=(0.02, 0.4), lost=0.05, repeated=0.02, split_every_s=15),
        crashes=Crashes(every_s=40, per_effect=0.0005),
        ledger=LedgerFaults(away_every_s=20, lost=0.1),
        blob_failures=0.1,
        faults_s=40,
    ),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
