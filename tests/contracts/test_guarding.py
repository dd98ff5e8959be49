"""Deployment and the guardian's role: what it may stop, and that it may nothing else."""

import pytest
from eth_abi.abi import encode

from contracts.support import money
from contracts.support.evm import Reverted
from contracts.support.money import BANK, GUARDIAN, MINIMUM, SUPPLY, TREASURY, Economy, deploy
from contracts.support.players import NOBODY, Key, refused

STRANGER = Key("stranger").address
BOTH = pytest.mark.parametrize("name", ["stakes", "rewards"])


def refused_at_birth(economy: Economy, contract: str, types, values, name, *arguments):
    with refused(name, *arguments):
        try:
            deploy(economy.evm, contract, types, values)
        except Reverted as reverted:
            raise money.abi_of(contract).refusal(reverted.data) from None


def test_all_tokens_exist_from_the_beginning(economy):
    assert economy.token.read("totalSupply") == SUPPLY == economy.balance(BANK)
    functions = set(money.abi_of("Token").functions)
    assert functions == {
        *("name", "symbol", "decimals", "totalSupply", "balanceOf", "transfer", "transferFrom"),
        *("approve", "allowance", "permit", "nonces", "DOMAIN_SEPARATOR", "eip712Domain"),
    }
    types = ["string", "string", "address", "uint256"]
    refused_at_birth(economy, "Token", types, ["T", "T", BANK, 0], "NothingMinted")


def test_a_permit_approves(economy):
    holder, token = Key("holder"), economy.token
    kind = money.keccak(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
    values = [kind, holder.address, STRANGER, 5, 0, economy.evm.now]
    struct = money.keccak(encode(["bytes32", "address", "address", *["uint256"] * 3], values))
    signed = holder.sign(money.keccak(b"\x19\x01" + token.read("DOMAIN_SEPARATOR") + struct))
    parts = (signed[64], signed[:32], signed[32:64])
    token.send(NOBODY, "permit", holder.address, STRANGER, 5, economy.evm.now, *parts)
    assert token.read("allowance", holder.address, STRANGER) == 5


def test_pots_and_stakes_need_contracts_behind_them(economy):
    registry, token = economy.world.registry.address, economy.token.address
    for wrong in ({"registry": STRANGER}, {"token": STRANGER}):
        setup = money.pots_setup(**{"registry": registry, "token": token} | wrong)
        refused_at_birth(economy, "RewardsDistributor", money.POTS_TYPES, [setup], "NoContract", STRANGER)
    good = {"registry": registry, "token": token, "rewards": economy.rewards.address}
    for name in good:
        setup = money.stakes_setup(**good | {name: STRANGER})
        refused_at_birth(economy, "StakeManager", money.STAKES_TYPES, [setup], "NoContract", STRANGER)
    refused_at_birth(economy, "TrainingRecords", ["address"], [STRANGER], "NoRegistry", STRANGER)


def test_windows_follow_from_one_another(economy):
    registry, token = economy.world.registry.address, economy.token.address
    least = money.AUDIT + money.DISPUTE
    setup = money.pots_setup(registry, token, activation=least)
    refused_at_birth(
        economy, "RewardsDistributor", money.POTS_TYPES, [setup], "ActivationTooShort", least, least
    )
    deploy(
        economy.evm,
        "RewardsDistributor",
        money.POTS_TYPES,
        [money.pots_setup(registry, token, activation=least + 1)],
    )
    for window in ("settle", "dead"):
        setup = money.pots_setup(registry, token, **{window: 0})
        refused_at_birth(economy, "RewardsDistributor", money.POTS_TYPES, [setup], "EmptyWindow")
    needed = money.ACTIVATION + money.SETTLE + money.SLASH
    rewards = economy.rewards.address
    setup = money.stakes_setup(registry, token, rewards, unbond=needed)
    refused_at_birth(
        economy, "StakeManager", money.STAKES_TYPES, [setup], "UnbondingTooShort", needed, needed
    )
    for changes in ({"slash": 0}, {"dead": 0}):
        setup = money.stakes_setup(registry, token, rewards, **changes)
        refused_at_birth(economy, "StakeManager", money.STAKES_TYPES, [setup], "EmptyWindow")
    setup = money.stakes_setup(registry, token, rewards, treasury=NOBODY)
    refused_at_birth(economy, "StakeManager", money.STAKES_TYPES, [setup], "BadTreasury", NOBODY)


def test_what_arrives_is_what_was_sent(economy):
    """A contract that answers 1 to everything is a token that takes all as its fee."""
    answers_one = bytes.fromhex("600160005260206000f3")
    creation = b"\x69" + answers_one + bytes.fromhex("600052600a6016f3")
    token = economy.evm.send(BANK, b"", creation).contract
    registry, owner, run = economy.world.registry.address, economy.world.owner.address, economy.world.open()
    rewards = deploy(economy.evm, "RewardsDistributor", money.POTS_TYPES, [money.pots_setup(registry, token)])
    rewards.send(owner, "openPot", run, (1, 1, 1, 1))
    with refused("WrongAmountArrived", 5, 0):
        rewards.send(owner, "fund", run, 5)
    setup = money.stakes_setup(registry, token, rewards.address)
    stakes = deploy(economy.evm, "StakeManager", money.STAKES_TYPES, [setup])
    stakes.send(owner, "setTerms", run, (5, 5))
    member = economy.world.member()
    with refused("WrongAmountArrived", 5, 0):
        stakes.send(member.controller, "stake", run, member.id, 5)


@BOTH
def test_the_guardian_hands_over_in_two_steps(economy, name):
    contract, heir = getattr(economy, name), Key("heir").address
    with refused("NotGuardian", STRANGER):
        contract.send(STRANGER, "offerGuardian", heir)
    assert contract.send(GUARDIAN, "offerGuardian", heir).log.arguments == {"guardian": heir}
    assert (contract.read("guardian"), contract.read("offered")) == (GUARDIAN, heir)
    with refused("NotOffered", STRANGER):
        contract.send(STRANGER, "acceptGuardian")
    assert contract.send(heir, "acceptGuardian").log.name == "GuardianChanged"
    assert (contract.read("guardian"), contract.read("offered")) == (heir, NOBODY)
    with refused("NotGuardian", GUARDIAN):
        contract.send(GUARDIAN, "setPaused", True)
    with refused("NotOffered", heir):
        contract.send(heir, "acceptGuardian")


@BOTH
def test_who_gives_the_role_up_leaves_nothing_paused(economy, name):
    contract = getattr(economy, name)
    contract.send(GUARDIAN, "setPaused", True)
    contract.send(GUARDIAN, "offerGuardian", STRANGER)
    with refused("NotGuardian", STRANGER):
        contract.send(STRANGER, "renounceGuardian")
    logs = contract.send(GUARDIAN, "renounceGuardian").logs
    assert [log.name for log in logs] == ["PausedChanged", "GuardianChanged"]
    assert (contract.read("guardian"), contract.read("paused")) == (NOBODY, False)
    with refused("NotOffered", STRANGER):
        contract.send(STRANGER, "acceptGuardian")


def test_a_pause_stops_what_comes_in(economy):
    paying, staked = economy.paying(1), economy.staked(1)
    (member,) = staked.running.seats
    for contract in (economy.rewards, economy.stakes):
        contract.send(GUARDIAN, "setPaused", True)
    other = economy.world.open()
    with refused("EntryPaused"):
        economy.stakes.send(economy.world.owner.address, "setTerms", other, (MINIMUM, 1))
    with refused("EntryPaused"):
        staked.stake(member, 1)
    with refused("EntryPaused"):
        economy.rewards.send(economy.world.owner.address, "openPot", other, (1, 1, 1, 1))
    with refused("EntryPaused"):
        paying.fund(1)


def test_a_pause_stops_nothing_that_goes_out(economy):
    paying, staked = economy.paying(1), economy.staked(2)
    member, liar = staked.running.seats
    for contract in (economy.rewards, economy.stakes):
        contract.send(GUARDIAN, "setPaused", True)
    first = staked.update(liar)
    second = staked.update(liar, blob_size=1)
    staked.slash(first, second, (liar.key, liar.key))
    economy.stakes.send(NOBODY, "collectReward", money.place_id(first))
    economy.stakes.send(NOBODY, "collectSeized")
    assert economy.balance(TREASURY) == money.FAULT - money.FAULT // 10
    staked.drop(member)
    staked.unbond(member)
    staked.wait(money.UNBOND)
    staked.withdraw(member)
    assert economy.balance(member.controller) == MINIMUM
    (worker,) = paying.running.seats
    paying.work(1)
    paying.settle({worker.id: 7})
    paying.wait(money.ACTIVATION)
    paying.claim(worker)
    paying.send("close")
    paying.wait(money.ACTIVATION + money.SETTLE)
    paying.send("refund")
    assert economy.balance(worker.controller) == 7
