// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRuns} from "./IRuns.sol";

/// @title Certificates: how a round ends.
interface IRounds is IRuns {
    /// @notice This body is the round, for everyone. The beacon is in `getRun`, and follows from this and the hash of
    /// the block before.
    event Certified(
        uint64 indexed run,
        uint64 indexed round,
        bytes32 head,
        bytes32 previousHead,
        bytes32 updatesRoot,
        bytes32 stateRoot,
        bytes32 trainersRoot,
        Promotion[] promotions,
        bytes32[] drops
    );

    /// @notice The run expects another round: perhaps a certificate for this one has landed already.
    error WrongRound(uint64 given, uint64 expected);
    /// @notice The body follows another head than the run's.
    error WrongPreviousHead(bytes32 given, bytes32 head);
    /// @notice An empty round leaves the state as it was.
    error EmptyRoundChangesState(bytes32 given, bytes32 stateRoot);
    /// @notice A certificate promotes at most 32 members, and drops at most 32.
    error TooManyChanges(uint256 promotions, uint256 drops);
    /// @notice This key was never this member's.
    error NeverRegistered(bytes32 member, address key);
    /// @notice A certificate cannot promote and drop the same member.
    error PromotedAndDropped(bytes32 member);

    /// @notice End a round; anyone may submit, the first valid certificate wins. What a head means is frozen here: it
    /// is never asked whether a member is still in, or a key still current.
    /// @param signatures of at least two thirds of the seats over the EIP-712 digest of `body`, sorted by signer
    function certify(Body calldata body, bytes calldata signatures) external;

    /// @notice Reverts unless at least two thirds of the run's seats of now signed `digest`, sorted by signer: for
    /// contracts that act on the seats' word. They compute the digest themselves, in an EIP-712 domain of their own.
    function checkQuorum(uint64 run, bytes32 digest, bytes calldata signatures) external view;
}
