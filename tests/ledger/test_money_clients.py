"""Pots, stakes, records and tokens through their clients, on the embedded chain and on anvil, also said twice."""

from typing import Any

import pytest

from distrai.ledger.contract import NoKey
from distrai.ledger.errors import BadAnswer, LedgerRefused, WrongChain
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import AccountState, Payment, PotsClient
from distrai.ledger.stakes import StakeState, StakeTerms
from distrai.ledger.training_records import Request, Result, Stage, read_claims
from distrai.protocol.faults import place_of
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Deactivated, Joined
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from helpers.money_chain import (
    FAULT_MAX,
    GUARDIAN,
    MINIMUM,
    QUICK,
    TERMS,
    WINDOWS,
    MoneyChain,
    refusal,
    refused,
)

CAP, RATE = TERMS.cap, TERMS.rate
SOMEBODY = Address(b"\x01" * 20)


@pytest.fixture
def chain(served: Any) -> Any:
    return served.chain


async def test_a_pot_from_its_opening_to_its_refund(money: MoneyChain) -> None:
    run = await money.run()
    pots, token, number = run.pots, await money.token(), run.number
    first, second, third = run.members
    assert await pots.fund(number, 10 * RATE) == 10 * RATE
    await run.work(2)
    epoch = await run.settle({first: 2 * CAP, second: 5})
    pot = await pots.pot_of(number)
    assert pot is not None
    assert (pot.funded, pot.live, pot.members, pot.terms) == (10 * RATE, 1, 3, TERMS)
    state = await pots.epoch_of(number, 1)
    assert (state.root, state.total, state.last_round) == (epoch.root, 2 * CAP + 5, 2)
    assert state.active_from == await pots.ledger_time() + WINDOWS.activation_seconds
    money.wait(WINDOWS.activation_seconds)
    paid = await pots.claim(number, 1, first, 2 * CAP, run.proof(first))
    assert (paid.paid, paid.claimed) == (2 * CAP, 2 * CAP)
    assert await token.balance(run.keys[first].address) == 2 * CAP
    assert await pots.account_of(number, first) == AccountState(True, True, 2 * CAP)
    assert await pots.account_of(number, MemberId(b"x" * 32)) == AccountState(False, False, 0)
    assert await pots.funded_until(number) == 2 + (10 * RATE - 2 * CAP - 5) // RATE

    assert await pots.close_pot(number)
    assert await refused(pots.refund(number)) == "NotRefundable"
    money.wait(WINDOWS.settle_seconds + WINDOWS.activation_seconds)
    assert await pots.refundable_at(number) <= await pots.ledger_time() + 300
    before = await token.balance(money.owner.address)
    assert await pots.refund(number) == 10 * RATE - 2 * CAP - 5
    assert await token.balance(money.owner.address) == before + 10 * RATE - 2 * CAP - 5
    assert (await pots.claim(number, 1, second, 5, run.proof(second))).paid == 5
    assert (await pots.account_of(number, third)).claimed == 0


async def test_what_was_done_is_a_result_when_it_is_said_again(money: MoneyChain) -> None:
    run = await money.run()
    pots, number, (first, *_) = run.pots, run.number, run.members
    await pots.fund(number, 2 * RATE)
    await run.work(1)
    assert await pots.mark_head(number) == 1
    assert await pots.mark_head(number) is None
    epoch = await run.settle({first: 7})
    signatures = run.sign(run.domain, epoch.id)
    assert await pots.settle(epoch, signatures) is False
    other = await pots.epoch_of(number, 1)
    assert other.root == epoch.root
    assert await pots.open_pot(number, TERMS) is False
    assert await pots.allow(number, first) is False
    money.wait(WINDOWS.activation_seconds)
    assert (await pots.claim(number, 1, first, 7, run.proof(first))).paid == 7
    somebody = await money.pots(NodeKey.generate())
    assert await somebody.claim(number, 1, first, 7, run.proof(first)) == Payment(0, 7, None)
    assert await pots.disallow(number, first) is True
    assert await pots.disallow(number, first) is False
    assert await pots.close_pot(number) is True
    assert await pots.close_pot(number) is False
    money.wait(WINDOWS.settle_seconds + WINDOWS.activation_seconds)
    assert await pots.refund(number) == 2 * RATE - 7
    assert await pots.refund(number) == 0


async def test_what_would_be_something_else_is_still_refused(money: MoneyChain) -> None:
    run = await money.run()
    pots, number, (first, second, _) = run.pots, run.number, run.members
    await pots.fund(number, 2 * RATE)
    await run.work(1)
    epoch = await run.settle({first: 7})
    changed = {name: getattr(epoch, name) for name in epoch.__struct_fields__} | {"total": 6}
    assert await refused(pots.settle(type(epoch)(**changed), [])) == "WrongEpoch"
    assert await refused(pots.open_pot(number, type(TERMS)(1, 1, 1, 1))) == "PotExists"
    assert (await refusal(pots.claim(number, 1, first, 7, run.proof(first)))).name == "NotActive"
    money.wait(WINDOWS.activation_seconds)
    assert await refused(pots.claim(number, 1, first, 8, run.proof(first))) == "NotInRoot"
    assert await refused(pots.claim(number, 2, first, 7, run.proof(first))) == "NotLive"
    assert await refused(pots.claim(number, 1, second, 7, run.proof(first))) == "NotInRoot"
    assert await refused(pots.fund(99, 1)) == "NoPot"


async def test_an_error_of_another_contract_keeps_its_name(money: MoneyChain) -> None:
    run = await money.run()
    poor = NodeKey.generate()
    money.give_gas(poor.address)
    pots = await money.pots(poor)
    error = await refusal(pots.fund(run.number, 5))
    assert (error.name, error.arguments) == ("ERC20InsufficientBalance", (poor.address, 0, 5))
    reading = await money.client(PotsClient, money.deployment.rewards, None)
    with pytest.raises(NoKey, match="wallet"):
        await reading.fund(run.number, 5)
    with pytest.raises(WrongChain, match="no contract"):
        await PotsClient.connect(money.url, SOMEBODY, money.chain_id, patience=QUICK)


async def test_funding_and_staking_up_to_an_amount_can_be_repeated(money: MoneyChain) -> None:
    run = await money.run(staked=True)
    assert await run.pots.fund_up_to(run.number, 100) == 100
    assert await run.pots.fund_up_to(run.number, 100) == 0
    assert await run.pots.fund_up_to(run.number, 130) == 30
    token, (member, *_) = await money.token(), run.members
    assert await token.allowance(money.owner.address, run.pots.address) == 0
    key = run.keys[member]
    await token.transfer(key.address, 500)
    stakes = await money.stakes(key)
    assert await stakes.stake_up_to(run.number, member, MINIMUM + 300) == 300
    assert await stakes.stake_up_to(run.number, member, MINIMUM + 300) == 0
    await (await money.ledger(key)).leave(run.number, member)
    await stakes.unbond(run.number, member)
    assert not await stakes.is_active(run.number, member)
    assert await stakes.stake_up_to(run.number, member, MINIMUM + 300) == 0  # takes the asked exit back
    assert await stakes.is_active(run.number, member)
    assert await token.balance(key.address) == 200


async def test_a_killed_epoch_is_settled_again(money: MoneyChain) -> None:
    run = await money.run()
    number, (first, *_) = run.number, run.members
    await run.pots.fund(number, 2 * RATE)
    await run.work(1)
    killed = await run.settle({first: 7})
    guardian = await money.pots(GUARDIAN)
    assert await refused(run.pots.kill(number, 1)) == "NotGuardian"
    assert await guardian.kill(number, 1) is True
    assert await guardian.kill(number, 1) is False
    assert await refused(run.pots.settle(killed, run.sign(run.domain, killed.id))) == "WrongKills"
    run.epochs, run.root, run.kills, run.earned = 0, ZERO_HASH, 1, {}
    await run.settle({first: 6})
    pot = await run.pots.pot_of(number)
    assert pot is not None
    assert (pot.live, pot.kills) == (1, 1)


async def test_the_guardian_s_role_changes_hands_and_ends(money: MoneyChain) -> None:
    pots, heir = await money.pots(GUARDIAN), await money.pots(NodeKey.generate())
    await pots.set_paused(True)
    assert await pots.paused()
    await pots.offer_guardian(heir.sender_address)
    assert (await pots.guardian(), await pots.offered()) == (GUARDIAN.address, heir.sender_address)
    await heir.accept_guardian()
    assert await refused(pots.set_paused(False)) == "NotGuardian"
    await heir.renounce_guardian()
    assert (await pots.guardian(), await pots.paused()) == (bytes(20), False)


async def test_a_stake_from_the_door_to_its_return(money: MoneyChain) -> None:
    run = await money.run(staked=True)
    number, stakes, token = run.number, run.stakes, await money.token()
    assert await run.ledger.stakes_of(number) == money.deployment.stakes
    assert await run.ledger.require_stake(number, money.deployment.stakes) is False
    assert await refused(run.ledger.require_stake(number, money.deployment.rewards)) == "RunNotOpen"
    assert await stakes.set_terms(number, MINIMUM, FAULT_MAX) is False
    assert await refused(stakes.set_terms(number, MINIMUM, 1)) == "TermsFixed"
    assert await stakes.terms_of(number) == StakeTerms(MINIMUM, FAULT_MAX)
    poor, key = await run.register()
    assert await refused(run.join(poor, key)) == "NotStaked"
    await token.transfer(key.address, MINIMUM)
    assert await refused((await money.stakes(key)).stake(number, poor, MINIMUM - 1)) == "BelowMinimum"

    leaver, *_ = run.members
    own = await money.stakes(run.keys[leaver])
    await (await money.ledger(run.keys[leaver])).leave(number, leaver)
    asked = await own.unbond(number, leaver)
    assert (asked.staked, asked.unbonding) == (MINIMUM, 0)
    assert asked.asked_at == await own.ledger_time()
    assert not await stakes.is_active(number, leaver)
    await run.certify(drops=(leaver,))
    going = await own.unbond(number, leaver)
    assert going == StakeState(0, MINIMUM, await own.ledger_time() + WINDOWS.unbond_seconds, 0)
    assert await own.unbond(number, leaver) == going
    assert await refused(stakes.withdraw(number, leaver)) == "NotReleased"
    money.wait(WINDOWS.unbond_seconds)
    assert await stakes.withdraw(number, leaver) == MINIMUM
    assert await token.balance(run.keys[leaver].address) == MINIMUM
    assert await refused(stakes.withdraw(number, leaver)) == "NothingUnbonding"
    older, newer = await stakes.clock_of(number)
    assert (older.time, newer.round) == (0, 1)


async def test_two_updates_for_one_place_cost_stake_once(money: MoneyChain) -> None:
    run = await money.run(staked=True)
    number, stakes = run.number, run.stakes
    await run.work(1)
    liar, *_ = run.members
    key = run.keys[liar]
    pair = run.update(liar, b"one"), run.update(liar, b"other")
    signatures = run.signed(pair[0], key), run.signed(pair[1], key)
    assert await refused(stakes.slash(pair[0], pair[0], signatures[0], signatures[0])) == "SameUpdate"
    assert (
        await refused(stakes.slash(*pair, signatures[0], run.signed(pair[1], money.owner))) == "NotMembersKey"
    )
    assert await stakes.slash(*pair, *signatures) is True
    assert await stakes.slash(*pair, *signatures) is False
    place = place_of(pair[0]).id
    case = await stakes.case_of(place)
    assert case is not None
    assert (case.challenger, case.reward) == (money.owner.address, FAULT_MAX // 10)
    assert await stakes.case_of(keccak(b"nothing")) is None
    assert (await stakes.stake_of(number, liar)).staked == MINIMUM - FAULT_MAX
    assert await stakes.seized() == FAULT_MAX - FAULT_MAX // 10
    assert [await stakes.collect_reward(place) for _ in range(2)] == [True, False]
    assert [await stakes.collect_seized() for _ in range(2)] == [True, False]


async def test_whose_stake_counts_no_more_is_among_the_run_s_events(money: MoneyChain, chain: Any) -> None:
    run = await money.run(staked=True)
    slashed, leaver, topped = run.members
    await run.work(1)
    await run.stake(topped, run.keys[topped], FAULT_MAX)
    for number, liar in enumerate((topped, slashed)):
        one, other = (run.update(liar, bytes([number, which])) for which in range(2))
        signatures = [run.signed(update, run.keys[liar]) for update in (one, other)]
        await run.stakes.slash(one, other, *signatures)
    await (await money.ledger(run.keys[leaver])).leave(run.number, leaver)
    await (await money.stakes(run.keys[leaver])).unbond(run.number, leaver)
    await run.certify()

    def deactivated(events: list[Any]) -> list[MemberId]:
        return [event.member for event in events if isinstance(event, Deactivated)]

    plain = await run.ledger.events(run.number, 0, chain.block_number)
    assert deactivated(plain) == []
    run.ledger.watch_stakes(money.deployment.stakes)
    told = await run.ledger.events(run.number, 0, chain.block_number)
    assert deactivated(told) == [slashed, leaver]  # who topped up lost nothing that counts
    assert told == sorted(told, key=lambda event: event.at)
    assert [event for event in told if not isinstance(event, Deactivated)] == plain
    assert isinstance(told[1], Joined)


async def test_a_training_record_from_request_to_its_close(money: MoneyChain) -> None:
    run = await money.run()
    records = await money.records()
    parameters = '{"layers":4}'
    request = Request(
        run.number, keccak(b"recipe"), 1_250_000, 3_000, "H100", "me", "small", "code", parameters
    )
    number = await records.open(request)
    assert (number, await records.count()) == (1, 1)
    assert [await records.reach(1, Stage.TRAINED, keccak(b"e")) for _ in range(2)] == [True, False]
    result = Result(keccak(b"manifest"), ZERO_HASH, 60, 120, 2)
    await run.work(1)
    assert await records.close_record(1, result) is True
    assert await records.close_record(1, result) is False
    other = Result(keccak(b"another"), ZERO_HASH, 60, 120, 2)
    assert await refused(records.close_record(1, other)) == "RecordIsClosed"
    record = await records.get(1)
    assert (record.sender, record.stage, record.round) == (money.owner.address, Stage.CLOSED, 1)
    assert (record.request, record.result) == (request, result)
    assert record.state_root == (await run.ledger.run_state(run.number)).state_root
    assert await refused(records.get(2)) == "UnknownRecord"
    before = await records.get(1, block=(await run.ledger.block_number()) - 1)
    assert before.stage == Stage.TRAINED


async def test_the_seats_close_a_record(money: MoneyChain) -> None:
    run = await money.run()
    records = await money.records()
    await records.open(Request(run.number, keccak(b"recipe"), 0, 0, "", "", "", "", "{}"))
    await run.work(1)
    result = Result(keccak(b"manifest"), keccak(b"table"), 60, 120, 2)
    digest = await records.closing_digest(1, result)
    keys = sorted(run.keys.values(), key=lambda key: key.address)
    anybody = await money.records(NodeKey.generate())
    signatures = [key.sign(digest) for key in keys]
    assert await refused(anybody.close_by_seats(1, result, signatures[:1])) == "NotEnoughSignatures"
    assert await anybody.close_by_seats(1, result, signatures) is True
    assert await anybody.close_by_seats(1, result, signatures) is False


def test_claims_that_are_cut_off_are_no_claims() -> None:
    packed = b"s" * 32 + (5).to_bytes(8, "big") + (6).to_bytes(8, "big")
    texts = b"".join(len(text).to_bytes(2, "big") + text for text in (b"a", b"", b"c\xc3\xa9", b"d", b"{}"))
    assert read_claims(3, packed + texts) == Request(3, Hash(b"s" * 32), 5, 6, "a", "", "cé", "d", "{}")
    for bad in (packed, packed + texts[:-1], packed + b"\0\1\xff" + texts, b""):
        with pytest.raises(BadAnswer):
            read_claims(3, bad)


def test_refusals_are_value_errors() -> None:
    assert issubclass(LedgerRefused, ValueError)
    assert issubclass(NoKey, ValueError)
