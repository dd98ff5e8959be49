// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRuns} from "../interfaces/IRuns.sol";

/// @title The hashes that chain a run together, and the struct hashes that are signed. Frozen: `protocol/body.py`
/// computes the same, and shared test vectors hold both to it.
library Heads {
    uint8 internal constant CERTIFICATE = 1;
    uint8 internal constant ROLL_CALL = 2;

    bytes32 private constant _PROMOTION = keccak256("Promotion(bytes32 member,address key)");
    bytes32 private constant _BODY = keccak256(
        "Body(uint64 run,uint64 round,bytes32 previousHead,bytes32 updatesRoot,bytes32 stateRoot,"
        "bytes32 trainersRoot,Promotion[] promotions,bytes32[] drops)Promotion(bytes32 member,address key)"
    );

    /// @notice The first link: everything that tells this run from any other, on any chain, in any registry.
    function genesis(uint64 run, IRuns.Origin calldata origin) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                "distrai/genesis/1",
                block.chainid,
                address(this),
                run,
                origin.recipeHash,
                origin.stateRoot,
                origin.dataHash,
                origin.tokenizerHash,
                origin.parent.run,
                origin.parent.round,
                origin.parent.head
            )
        );
    }

    /// @notice The head that round 1 follows.
    function start(bytes32 genesisHead, bytes32[] calldata members, address[] memory keys)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(genesisHead, "distrai/start/1", members, keys));
    }

    /// @notice The head after a certificate. Signatures are no part of it: different two thirds make the same head.
    function certificate(IRuns.Body calldata body) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                body.previousHead,
                CERTIFICATE,
                body.round,
                body.updatesRoot,
                body.stateRoot,
                body.trainersRoot,
                body.promotions,
                body.drops
            )
        );
    }

    /// @notice The head after a roll call: an empty round, that only drops.
    function rollCall(bytes32 previousHead, uint64 round, bytes32 stateRoot, bytes32[] calldata drops)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                previousHead,
                ROLL_CALL,
                round,
                bytes32(0),
                stateRoot,
                bytes32(0),
                new IRuns.Promotion[](0),
                drops
            )
        );
    }

    /// @notice The EIP-712 struct hash of a body.
    function bodyHash(IRuns.Body calldata body) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                _BODY,
                body.run,
                body.round,
                body.previousHead,
                body.updatesRoot,
                body.stateRoot,
                body.trainersRoot,
                _promotionsHash(body.promotions),
                keccak256(abi.encodePacked(body.drops))
            )
        );
    }

    function _promotionsHash(IRuns.Promotion[] calldata promotions) private pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](promotions.length);
        for (uint256 i = 0; i < promotions.length; ++i) {
            hashes[i] = keccak256(abi.encode(_PROMOTION, promotions[i].member, promotions[i].key));
        }
        return keccak256(abi.encodePacked(hashes));
    }
}
