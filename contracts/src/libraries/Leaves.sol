// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRewardsDistributor} from "../interfaces/IRewardsDistributor.sol";

/// @title The hashes of rewards. Frozen: `protocol/rewards.py` computes the same.
library Leaves {
    bytes32 private constant _EPOCH = keccak256(
        "Epoch(uint64 run,uint32 epoch,uint64 lastRound,bytes32 head,bytes32 root,uint128 total,bytes32 dataHash,"
        "bytes32 previousRoot,uint32 kills)"
    );

    /// @notice The leaf of a member: hashed twice, so that no inner node passes for one; with chain, distributor and run,
    /// so that it counts nowhere else.
    function hash(uint64 run, bytes32 member, uint128 amount) internal view returns (bytes32 leaf) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, chainid())
            mstore(add(free, 0x20), address())
            mstore(add(free, 0x40), and(run, 0xffffffffffffffff))
            mstore(add(free, 0x60), member)
            mstore(add(free, 0x80), and(amount, 0xffffffffffffffffffffffffffffffff))
            mstore(0x00, keccak256(free, 0xa0))
            leaf := keccak256(0x00, 0x20)
        }
    }

    /// @notice The root of the tree that has this leaf, by the nodes beside its way up: OpenZeppelin's `MerkleProof`, of
    /// whose loop a claim would spend a gas in a hundred on checks that the ABI decoder has made.
    function rootOf(bytes32[] calldata proof, bytes32 leaf) internal pure returns (bytes32 node) {
        node = leaf;
        assembly ("memory-safe") {
            let end := add(proof.offset, shl(5, proof.length))
            for { let at := proof.offset } lt(at, end) { at := add(at, 0x20) } {
                let beside := calldataload(at)
                let place := shl(5, gt(node, beside)) // the smaller of the two comes first
                mstore(place, node)
                mstore(xor(place, 0x20), beside)
                node := keccak256(0x00, 0x40)
            }
        }
    }

    /// @notice The EIP-712 struct hash of an epoch.
    function epochHash(IRewardsDistributor.Epoch calldata epoch) internal pure returns (bytes32) {
        return keccak256(abi.encode(_EPOCH, epoch));
    }
}
