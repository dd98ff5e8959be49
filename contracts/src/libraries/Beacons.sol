// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Randomness for drawing audits and juries, and for nothing else.
/// @notice Weak on purpose: whoever submits a certificate may choose among blocks, and a chain with one operator has
/// no randomness at all. Only this library would change for a better source.
library Beacons {
    /// @notice The beacon that comes with a head. The hash of the block before is not known when the body is signed.
    function next(bytes32 previous, bytes32 head) internal view returns (bytes32) {
        return keccak256(abi.encode(previous, head, blockhash(block.number - 1)));
    }
}
