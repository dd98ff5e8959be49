// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRuns} from "./IRuns.sol";

/// @title How a run begins, and who takes part in it.
interface IAdmission is IRuns {
    /// @notice A run exists: until it is started, whoever joins is a seat at once. Its limits are in `getRun`.
    event RunOpened(
        uint64 indexed run,
        address indexed owner,
        bytes32 recipeHash,
        bytes32 stateRoot,
        bytes32 dataHash,
        bytes32 tokenizerHash,
        uint64 parentRun,
        uint64 parentRound,
        bytes32 parentHead,
        bytes32 genesisHead
    );
    /// @notice Who joins this run has a stake in that contract from now on.
    event StakeRequired(uint64 indexed run, address stakes);
    /// @notice A member takes part from the next head on. `seat`: it got a seat by this.
    event Joined(uint64 indexed run, bytes32 indexed member, address key, bool seat);
    /// @notice A member asked to leave; a seat of a started run stays one until a certificate drops it.
    event Left(uint64 indexed run, bytes32 indexed member);
    /// @notice Where a member can be reached. Nothing is stored: only the newest event counts.
    event Announced(uint64 indexed run, bytes32 indexed member, string endpoint);
    /// @notice The first head, with all seats (sorted) and their keys.
    event Started(uint64 indexed run, bytes32 head, bytes32[] seats, address[] keys);

    /// @notice A recipe and a state are needed to open a run.
    error MissingHash();
    /// @notice Needed: 1 <= minSeats <= maxSeats <= 64.
    error BadSeatLimits(uint256 minSeats, uint256 maxSeats);
    /// @notice Needed: 1 second to 30 days.
    error BadStallSeconds(uint256 stallSeconds);
    /// @notice Needed: a share above 0 and at most 1.
    error BadRollCallShare(uint256 numerator, uint256 denominator);
    /// @notice An epoch has at least one round.
    error BadEpochRounds();
    /// @notice A run of its own has neither parent round nor parent head, and a parent must have started.
    error BadParent(uint64 run);
    /// @notice The parent has not come that far.
    error ParentRoundAhead(uint64 round, uint64 reached);
    /// @notice The parent is in this round, with another head.
    error WrongParentHead(bytes32 given, bytes32 head);
    /// @notice Only the owner starts a run, and says whether it needs stakes.
    error NotOwner(uint64 run, address sender);
    /// @notice Which contract holds the stakes is said once.
    error StakeAlreadyRequired(uint64 run, address stakes);
    /// @notice It must be said before anybody joins: who is in was not asked.
    error MembersEntered(uint64 run);
    /// @notice There is no contract at this address.
    error NoStakes(address given);
    /// @notice The member has not enough staked in the run, or wants it back.
    error NotStaked(uint64 run, bytes32 member);
    /// @notice Only a member's node key or controller acts for it.
    error NotMember(bytes32 member, address sender);
    /// @notice The member takes part already.
    error AlreadyJoined(uint64 run, bytes32 member);
    /// @notice The member takes no part.
    error NotJoined(uint64 run, bytes32 member);
    /// @notice Who left comes back only by its own transaction: its old signature must not bring it back.
    error RejoinOnlyByKey(uint64 run, bytes32 member);
    /// @notice An endpoint is too long.
    error EndpointTooLong(uint256 length, uint256 max);
    /// @notice The list of members is not all seats; perhaps one just joined or left.
    error SeatsDiffer(uint256 given, uint256 seats);

    /// @notice Open a run and own it.
    /// @return run its number
    function open(Origin calldata origin, Limits calldata limits) external returns (uint64 run);

    /// @notice Let only members join that are active in this StakeManager, as the owner, once, before anybody joins. The
    /// run must have its terms there, or nobody can join.
    function requireStake(uint64 run, address stakes) external;

    /// @notice The StakeManager that who joins must be active in; zero if no stake is needed.
    function stakesOf(uint64 run) external view returns (address stakes);

    /// @notice Enter a member; anyone may submit it. While the run is open it gets a seat, if one is free.
    /// @param signature Join(run, member) by the member's node key; not needed if that key sends the transaction
    /// @param invitation Invitation(run, member) by the run's owner; not needed if the run's admission is open
    function join(uint64 run, bytes32 member, bytes calldata signature, bytes calldata invitation) external;

    /// @notice Stop taking part, as the member's node key or controller.
    function leaveRun(uint64 run, bytes32 member) external;

    /// @notice Say where a member can be reached, as its node key or controller.
    function announce(uint64 run, bytes32 member, string calldata endpoint) external;

    /// @notice Make the first head, as the owner. Seats attest with the node keys that they have now.
    /// @param members all seats, sorted: given by the caller so that no list of them needs to be kept
    function start(uint64 run, bytes32[] calldata members) external;
}
