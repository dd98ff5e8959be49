// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice Attributes of a member. Its id is permanent, these may change.
struct Member {
    address controller; // changes the attributes
    address key; // node key: signs updates and certificates
    address payout; // earnings go here
    uint64 rotations; // counts key changes, so that a signed rotation is valid once
}

/// @notice What a run's opener commits to; all of it is in the genesis head.
struct Opening {
    bytes32 recipeHash;
    bytes32 stateRoot;
    bytes32 dataHash;
    bytes32 tokenizerHash;
    uint64 parentRun;
    uint64 parentRound;
    bytes32 parentHead;
}

/// @notice Limits of a run, from its recipe.
struct Limits {
    uint32 minSeats;
    uint32 maxSeats;
    uint32 stallSeconds; // without a certificate for so long, a roll call may open
    uint32 roundSecondsMin; // shortest time between two certificates
    uint32 epochRounds; // non-empty rounds in an epoch
    uint32 rollCallNumerator; // share of the seats that a roll call needs
    uint32 rollCallDenominator;
    bool openAdmission; // anybody may join: for play
}

/// @notice A trainer that gets a seat, or a seat that gets a new key.
struct Promotion {
    bytes32 member;
    address key;
}

/// @notice What the seats sign about a round.
struct Body {
    uint64 run;
    uint64 round;
    bytes32 previousHead;
    bytes32 updatesRoot;
    bytes32 stateRoot;
    bytes32 trainersRoot;
    Promotion[] promotions;
    bytes32[] drops;
}

/// @notice Where a run stands.
struct Run {
    address owner;
    bool started;
    uint64 round; // rounds that are over
    uint32 seats; // seats now
    bytes32 head;
    bytes32 stateRoot;
    bytes32 beacon;
    uint64 lastAt; // block time of the last head, or of the last failed roll call
    uint64 epochCount; // non-empty rounds in the current epoch
    uint32 epochSeats; // seats at the epoch's start
}

/// @notice An open roll call; `closesAt` zero means there is none.
struct RollCall {
    uint64 closesAt;
    uint64 number; // counts the calls of a run: check-ins belong to one of them
    uint32 present;
    uint32 failures; // in a row: each doubles the next window
}
