// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Body, Opening, Promotion} from "./Types.sol";

/// @title The hash rules of the protocol; `protocol/body.py` has the same, with shared test vectors.
library Hashes {
    uint8 internal constant CERTIFICATE = 1;
    uint8 internal constant ROLL_CALL = 2;

    bytes32 private constant PROMOTION_TYPE = keccak256("Promotion(bytes32 member,address key)");
    bytes32 private constant BODY_TYPE = keccak256(
        "Body(uint64 run,uint64 round,bytes32 previousHead,bytes32 updatesRoot,bytes32 stateRoot,bytes32 trainersRoot,Promotion[] promotions,bytes32[] drops)Promotion(bytes32 member,address key)"
    );

    /// @notice The EIP-712 struct hash of a body.
    function bodyHash(Body calldata body) internal pure returns (bytes32) {
        bytes32[] memory promotions = new bytes32[](body.promotions.length);
        for (uint256 i = 0; i < promotions.length; i++) {
            promotions[i] = keccak256(abi.encode(PROMOTION_TYPE, body.promotions[i].member, body.promotions[i].key));
        }
        return keccak256(
            abi.encode(
                BODY_TYPE,
                body.run,
                body.round,
                body.previousHead,
                body.updatesRoot,
                body.stateRoot,
                body.trainersRoot,
                keccak256(abi.encodePacked(promotions)),
                keccak256(abi.encodePacked(body.drops))
            )
        );
    }

    /// @notice The head that a certified body makes.
    function certifiedHead(Body calldata body) internal pure returns (bytes32) {
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

    /// @notice The head that a closed roll call makes: an empty round without the seats that did not check in.
    function rollCallHead(bytes32 previous, uint64 round, bytes32 stateRoot, bytes32[] calldata drops)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(previous, ROLL_CALL, round, bytes32(0), stateRoot, bytes32(0), new Promotion[](0), drops)
        );
    }

    /// @notice The first link of a run's chain of heads: it binds chain, registry, run and all that was committed to.
    function genesisHead(uint64 run, Opening calldata opening) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                "distrai/genesis/1",
                block.chainid,
                address(this),
                run,
                opening.recipeHash,
                opening.stateRoot,
                opening.dataHash,
                opening.tokenizerHash,
                opening.parentRun,
                opening.parentRound,
                opening.parentHead
            )
        );
    }

    /// @notice The first head; `seats` are sorted by member.
    function startHead(bytes32 genesis, bytes32[] calldata seats, address[] memory keys)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(genesis, "distrai/start/1", seats, keys));
    }
}
