// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStakeManager} from "../interfaces/IStakeManager.sol";

/// @title What members sign for their work. Frozen: `protocol/messages.py` hashes the same.
library Updates {
    bytes32 private constant _UPDATE = keccak256(
        "Update(uint16 version,uint64 run,uint64 round,bytes32 previousHead,bytes32 member,uint64 baseRound,"
        "bytes32 baseStateRoot,uint32 fragment,uint32 tau,uint32 innerSteps,uint64 tokens,string codec,"
        "bytes32 blobHash,uint64 blobSize,bytes32 keyHash,bytes32 traceRoot)"
    );
    bytes32 private constant _DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant _NAME = keccak256("DisTrAI");
    bytes32 private constant _VERSION = keccak256("1");

    /// @notice The EIP-712 struct hash of an Update.
    function hash(IStakeManager.Place calldata place, IStakeManager.Work calldata work)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            bytes.concat(
                abi.encode(
                    _UPDATE,
                    work.version,
                    place.run,
                    place.round,
                    place.previousHead,
                    place.member,
                    place.baseRound,
                    work.baseStateRoot
                ),
                abi.encode(
                    place.fragment,
                    work.tau,
                    work.innerSteps,
                    work.tokens,
                    keccak256(bytes(work.codec)),
                    work.blobHash,
                    work.blobSize,
                    work.keyHash,
                    work.traceRoot
                )
            )
        );
    }

    /// @notice The registry's EIP-712 domain on this chain.
    function separator(address registry) internal view returns (bytes32) {
        return keccak256(abi.encode(_DOMAIN, _NAME, _VERSION, block.chainid, registry));
    }
}
