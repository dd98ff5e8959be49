"""The simulator notices what is broken: every rule that it watches, with a peer or a model that breaks it."""

from distrai.peer import book
from distrai.peer.book import RoundBook
from distrai.peer.events import Persist, Send
from distrai.peer.following import Following
from distrai.peer.identity import Timing
from distrai.peer.roll_call import RollCall
from distrai.peer.round import Round
from distrai.protocol import seating, standing
from distrai.protocol.errors import WrongKey
from distrai.protocol.keccak import keccak
from distrai.simulation import SCENARIOS, compute, effects, membership, simulate, toy
from distrai.simulation.disk import Disk


def broken(name: str, *seeds: int) -> str:
    reports = [simulate(SCENARIOS[name], seed) for seed in seeds]
    return "\n".join(str(report) for report in reports if report.violations)


def test_a_peer_that_forgets_what_it_said_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(Disk, "own_records", lambda disk: [])
    assert "sent two different messages of kind" in broken("power-cuts", 0)


def test_a_message_that_is_sent_before_it_is_on_disk_is_noticed(monkeypatch) -> None:
    say = Round.say

    def hasty(round_: Round, *args, **kwargs):
        signed = say(round_, *args, **kwargs)
        assert isinstance(round_.effects[-2], Persist) and isinstance(round_.effects[-1], Send)
        round_.effects[-2:] = [round_.effects[-1], round_.effects[-2]]
        return signed

    monkeypatch.setattr(Round, "say", hasty)
    assert "that was not persisted" in broken("calm", 0)


def test_a_proposer_that_never_rotates_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(Timing, "attempt_at", lambda timing, since: (0, 0.0, 1e9))
    assert "did not close within" in broken("silent", 0)


def test_counting_an_update_whose_key_is_unknown_is_noticed(
    monkeypatch,
) -> None:
    monkeypatch.setattr(RoundBook, "is_open", lambda book, update: update in book.updates)
    assert "the engine raised KeyError" in broken("keyless", 0)


def test_another_state_than_the_certified_one_is_noticed(monkeypatch) -> None:
    save = Disk.save_applied
    monkeypatch.setattr(Disk, "save_applied", lambda disk, apply, root: save(disk, apply, keccak(root)))
    assert "holds another round" in broken("calm", 0)


def test_a_peer_that_computes_another_state_is_noticed(monkeypatch) -> None:
    compute_root, odd = compute.state_root_of, []

    def differently(before, certified, blobs):
        odd.append(blobs)
        root = compute_root(before, certified, blobs)
        return keccak(root) if blobs is odd[0] else root

    monkeypatch.setattr(compute, "state_root_of", differently)
    assert "leads to another state than was certified" in broken("calm", 0)


def test_an_update_that_is_not_finite_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(toy, "NOT_FINITE", b"")
    assert "is not finite" in broken("not-finite", 0)


def test_a_queue_without_bound_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(book, "UPDATES_PER_AUTHOR", 1000)
    assert "above the bound of" in broken("garbage", 0)


def test_a_lost_list_is_noticed(monkeypatch) -> None:
    """No peer answers for the list of a round that is over."""
    monkeypatch.setattr(effects, "_offer", lambda peer, offer: None)
    assert "a certified round is lost" in broken("crashes", 0)


def test_an_honest_message_that_is_refused_is_noticed(monkeypatch) -> None:
    take = Round.take

    def picky(round_, signed, now):
        if signed.message.kind == "key":
            raise WrongKey("none is right")
        take(round_, signed, now)

    monkeypatch.setattr(Round, "take", picky)
    assert "refused a key of peer" in broken("calm", 0)


# Members, roll calls and reorgs


def test_a_peer_that_forgets_what_it_said_when_the_ledger_goes_back_is_noticed(monkeypatch) -> None:
    rewind = Following.rewind

    def forgetful(following: Following, to_block: int, now: float) -> None:
        following.engine.records.clear()
        following.rounds.clear()
        rewind(following, to_block, now)

    monkeypatch.setattr(Following, "rewind", forgetful)
    assert "sent two different messages of kind" in broken("reorgs", 0, 1, 2)


def test_a_state_that_does_not_go_back_with_the_ledger_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(compute, "_revert", lambda peer, effect: None)
    assert "applied round 3 after round 4" in broken("reorgs", 1)


def test_a_joiner_that_stands_elsewhere_is_noticed(monkeypatch) -> None:
    reconstruct = membership.reconstruct

    def differently(*arguments):
        found, roster = reconstruct(*arguments)
        roster = dict(reversed(roster.items()))
        return standing.replace(found, roster=found.roster[::-1]), roster

    monkeypatch.setattr(membership, "reconstruct", differently)
    assert "the same head in the same block, another standing" in broken("joins", 0, 1)


def test_seats_for_whoever_joins_are_noticed(monkeypatch) -> None:
    """Silent joiners would stall the run until a roll call."""

    def everybody(now: standing.Standing, rules: standing.RunRules) -> list:
        return [trainer for trainer in now.roster if trainer.member not in now.seat_members]

    monkeypatch.setattr(seating, "_candidates", everybody)
    monkeypatch.setattr(seating, "_room", lambda *_: 5)
    assert "did not close within" in broken("guests", 0)


def test_a_run_that_never_calls_the_roll_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(RollCall, "act", lambda call, now: [])
    assert "did not close within" in broken("mass-loss", 0)


def test_a_peer_that_is_behind_and_signs_with_its_old_key_is_noticed(monkeypatch) -> None:
    """The rule that `churn` seed 0 changed: see docs/adr/0004."""

    def old_key(following: Following, member):
        known = following.standing and following.standing.trainer_key(member)
        return known or following.roster.get(member)

    monkeypatch.setattr(Following, "newest_key", old_key)
    assert "a certified round is lost" in broken("churn", 0)
