"""What members sign for the registry: EIP-712 digests, hashed as ``contracts/src`` hashes them.

Each binds chain and registry (the domain) and what it is for, so that none can be used for anything else; a counter
makes those that must not be used twice valid once.
"""

from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.protocol.typed_data import Domain, struct_hash, type_hash

_REGISTRATION = type_hash("Registration(address creator,uint256 nonce,address controller,address payout)")
_ROTATION = type_hash("Rotation(bytes32 member,address newKey,uint256 nonce)")
_JOIN = type_hash("Join(uint64 run,bytes32 member)")
_INVITATION = type_hash("Invitation(uint64 run,bytes32 member)")


def registration(domain: Domain, creator: Address, nonce: int, controller: Address, payout: Address) -> Hash:
    """A new member's node key consents to its registration by ``creator``, whose ``nonce``-th this is."""
    types = ["address", "uint256", "address", "address"]
    return domain.digest(struct_hash(_REGISTRATION, types, [creator, nonce, controller, payout]))


def rotation(domain: Domain, member: MemberId, new_key: Address, rotations: int) -> Hash:
    """A key consents to becoming the node key of a member that has rotated ``rotations`` times."""
    return domain.digest(
        struct_hash(_ROTATION, ["bytes32", "address", "uint256"], [member, new_key, rotations])
    )


def join_statement(domain: Domain, run: int, member: MemberId) -> Hash:
    """A member takes part in a run."""
    return domain.digest(struct_hash(_JOIN, ["uint64", "bytes32"], [run, member]))


def invitation(domain: Domain, run: int, member: MemberId) -> Hash:
    """The owner of a run lets a member in."""
    return domain.digest(struct_hash(_INVITATION, ["uint64", "bytes32"], [run, member]))
