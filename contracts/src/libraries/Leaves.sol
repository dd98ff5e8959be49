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
    function hash(uint64 run, bytes32 member, uint128 amount) internal view returns (bytes32) {
        return keccak256(
            bytes.concat(keccak256(abi.encode(block.chainid, address(this), run, member, amount)))
        );
    }

    /// @notice The EIP-712 struct hash of an epoch.
    function epochHash(IRewardsDistributor.Epoch calldata epoch) internal pure returns (bytes32) {
        return keccak256(abi.encode(_EPOCH, epoch));
    }
}
