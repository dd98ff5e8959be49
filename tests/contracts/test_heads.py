"""Every hash of the contract against an independent one: eth_abi and eth-account, and what peers compute."""

from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import to_checksum_address

from contracts.support.players import GRACE, STALL, Key, Running, promotion
from distrai.protocol.body import Genesis
from distrai.protocol.keccak import keccak

HEAD = ["bytes32", "uint8", "uint64", *["bytes32"] * 3, "(bytes32,address)[]", "bytes32[]"]
TYPES = {
    "Body": [
        ("run", "uint64"),
        ("round", "uint64"),
        ("previousHead", "bytes32"),
        ("updatesRoot", "bytes32"),
        ("stateRoot", "bytes32"),
        ("trainersRoot", "bytes32"),
        ("promotions", "Promotion[]"),
        ("drops", "bytes32[]"),
    ],
    "Promotion": [("member", "bytes32"), ("key", "address")],
    "Registration": [
        ("creator", "address"), ("nonce", "uint256"), ("controller", "address"), ("payout", "address")
    ],
    "Rotation": [("member", "bytes32"), ("newKey", "address"), ("nonce", "uint256")],
    "Join": [("run", "uint64"), ("member", "bytes32")],
    "Invitation": [("run", "uint64"), ("member", "bytes32")],
}  # fmt: skip


def head_of(*values):
    return keccak(encode(HEAD, values))


def sign_typed(world, key: Key, kind: str, message: dict) -> bytes:
    """A signature by eth-account, which knows nothing of our hashing."""
    domain = {
        "name": "DisTrAI",
        "version": "1",
        "chainId": 31337,
        "verifyingContract": to_checksum_address(world.registry.address),
    }
    used = [kind, "Promotion"] if kind == "Body" else [kind]
    types = {name: [{"name": field, "type": of} for field, of in TYPES[name]] for name in used}
    signable = encode_typed_data(domain, types, message)
    return bytes(Account.sign_message(signable, keccak(key.seed.encode())).signature)


def address(key: Key) -> str:
    return to_checksum_address(key.address)


def test_the_domain_is_told(world):
    fields, name, version, chain_id, contract, salt, extensions = world.read("eip712Domain")
    assert (fields, name, version, chain_id) == (b"\x0f", "DisTrAI", "1", 31337)
    assert (contract, salt, extensions) == (world.registry.address, bytes(32), ())


def test_the_genesis_head(world):
    parent = world.started(1)
    parent.certify()
    said = (parent.run, 1, parent.state.head)
    origin = (b"\1" * 32, b"\2" * 32, b"\3" * 32, b"\4" * 32)
    outcome = world.send(world.owner.address, "open", (*origin, said), (1, 1, 1, 1, 1, 1, False))
    run = outcome.returned[0]
    head = keccak(
        encode(
            ["string", "uint256", "address", "uint64", *["bytes32"] * 4, "uint64", "uint64", "bytes32"],
            ["distrai/genesis/1", 31337, world.registry.address, run, *origin, *said],
        )
    )
    names = ("recipeHash", "stateRoot", "dataHash", "tokenizerHash", "parentRun", "parentRound", "parentHead")
    assert outcome.log.name == "RunOpened"
    assert outcome.log.arguments == dict(zip(names, (*origin, *said), strict=True)) | {
        "run": run, "owner": world.owner.address, "genesisHead": head
    }  # fmt: skip
    assert Running(world, run, []).state.head == head
    assert Genesis(31337, world.registry.address, run, *origin, *said).head == head


def test_the_start_head(world):
    run, members = world.open(), world.members(3)
    for member in members:
        world.join(run, member)
    genesis = Running(world, run, []).state.head
    world.start(run, members)
    ids, keys = [member.id for member in members], [member.key.address for member in members]
    values = [genesis, "distrai/start/1", ids, keys]
    head = keccak(encode(["bytes32", "string", "bytes32[]", "address[]"], values))
    assert Running(world, run, members).state.head == head


def test_the_head_of_a_certificate(world):
    running, newcomers = world.started(5), world.members(2)
    drops = tuple(seat.id for seat in running.seats[:2])
    body = running.body(promotions=tuple(promotion(member) for member in newcomers), drops=drops)
    running.certify(body)
    pairs = [(member.id, member.key.address) for member in newcomers]
    roots = (body.updates_root, body.state_root, body.trainers_root)
    expected = head_of(body.previous_head, 1, 1, *roots, pairs, list(drops))
    assert running.state.head == expected == body.head


def test_the_head_of_a_roll_call(world):
    running = world.started(3)
    before = running.state
    running.wait(STALL)
    for seat in running.seats[:2]:
        running.check_in(seat)
    running.wait(STALL + GRACE)
    running.close(running.seats[2:])
    none = bytes(32)
    expected = head_of(before.head, 2, 1, none, before.state_root, none, [], [running.seats[2].id])
    assert running.state.head == expected


def test_a_body_signed_with_eth_account_counts(world):
    running, newcomer = world.started(2), world.member()
    body = running.body(promotions=(promotion(newcomer),), drops=(running.seats[0].id,))
    message = {
        "run": body.run,
        "round": body.round,
        "previousHead": body.previous_head,
        "updatesRoot": body.updates_root,
        "stateRoot": body.state_root,
        "trainersRoot": body.trainers_root,
        "promotions": [{"member": newcomer.id, "key": address(newcomer.key)}],
        "drops": list(body.drops),
    }
    keys = sorted((seat.key for seat in running.seats), key=lambda key: key.address)
    signatures = b"".join(sign_typed(world, key, "Body", message) for key in keys)
    assert signatures == running.signatures(body, running.seats)
    running.submit(body, signatures)


def test_statements_signed_with_eth_account_count(world):
    ann, node, new = Key("ann"), Key("node"), Key("new")
    claims = {"creator": address(ann), "nonce": 5, "controller": address(ann), "payout": address(new)}
    signature = sign_typed(world, node, "Registration", claims)
    (member,) = world.send(
        ann.address, "register", 5, ann.address, node.address, new.address, signature
    ).returned
    run = world.open()
    words = {"run": run, "member": member}
    signatures = sign_typed(world, node, "Join", words), sign_typed(world, world.owner, "Invitation", words)
    world.send(new.address, "join", run, member, *signatures)
    rotation = {"member": member, "newKey": address(new), "nonce": 0}
    world.send(ann.address, "rotateKey", member, new.address, sign_typed(world, new, "Rotation", rotation))
