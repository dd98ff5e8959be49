// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The data of a run.
interface IRuns {
    enum RunState {
        None,
        Open,
        Started
    }

    /// @notice A trainer that gets a seat, or a seat that gets a new key.
    struct Promotion {
        bytes32 member;
        address key;
    }

    /// @notice What the seats sign about a round.
    /// @param updatesRoot zero for an empty round, which leaves the state as it was
    /// @param promotions at most 32, sorted by member
    /// @param drops at most 32, sorted
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

    /// @notice The run, round and head that a run continues; all zero for a run of its own.
    struct Parent {
        uint64 run;
        uint64 round;
        bytes32 head;
    }

    /// @notice What a run is about; all of it is in the genesis head.
    struct Origin {
        bytes32 recipeHash;
        bytes32 stateRoot;
        bytes32 dataHash;
        bytes32 tokenizerHash;
        Parent parent;
    }

    /// @notice What the ledger enforces of the recipe.
    /// @param minSeats fewest seats to start with, and below which no certificate drops
    /// @param maxSeats most seats, at most 64
    /// @param stallSeconds ledger time without a new head after which a roll call may open; also its first window
    /// @param rollCallNumerator numerator of the share of the seats that a roll call needs
    /// @param rollCallDenominator and its denominator
    /// @param epochRounds non-empty rounds of an epoch; a roll call is measured by the seats at the epoch's start
    /// @param openAdmission whether anyone may join; otherwise the run's owner signs an invitation
    struct Limits {
        uint16 minSeats;
        uint16 maxSeats;
        uint32 stallSeconds;
        uint16 rollCallNumerator;
        uint16 rollCallDenominator;
        uint32 epochRounds;
        bool openAdmission;
    }

    /// @notice What changes with every head, in one slot.
    /// @param round rounds that are over
    /// @param headAt time of the head's block
    /// @param seats seats now
    /// @param epochSeats seats when the epoch began
    /// @param epochRoundsLeft non-empty rounds until the next epoch begins
    struct Progress {
        uint64 round;
        uint64 headAt;
        uint16 seats;
        uint16 epochSeats;
        uint32 epochRoundsLeft;
        RunState state;
    }

    /// @notice Where a run stands, for contracts that pay or punish by it, in one slot: `Progress` and a count.
    /// @param worked non-empty rounds that are over
    struct Course {
        uint64 round;
        uint64 headAt;
        uint16 seats;
        uint16 epochSeats;
        uint32 epochRoundsLeft;
        RunState state;
        uint32 worked;
    }

    /// @param head the genesis head while open, then the newest head
    /// @param beacon drawn with the head; zero while open
    struct Run {
        bytes32 head;
        bytes32 stateRoot;
        bytes32 beacon;
        Progress progress;
        Limits limits;
        address owner;
        bytes32 recipeHash;
        Parent parent;
    }

    /// @notice The newest roll call of a run.
    /// @param call its number within the run, from 1; what a seat that checked in is marked with
    /// @param round the round that it ends if it closes; once another head did, the call is void
    /// @param closesAt end of the window
    /// @param failures failed calls before it in this round, up to 8; each doubles the window
    /// @param checkedIn seats that checked in
    struct RollCall {
        uint32 call;
        uint64 round;
        uint64 closesAt;
        uint8 failures;
        uint16 checkedIn;
    }

    enum Part {
        None,
        Joined,
        Left
    }

    /// @notice A member's part in one run.
    /// @param seatKey the key with which it attests; zero without a seat
    /// @param part whether it trains
    /// @param checkedIn the roll call that it checked in to last
    struct Membership {
        address seatKey;
        Part part;
        uint32 checkedIn;
    }

    /// @notice No run has this number.
    error UnknownRun(uint64 run);
    /// @notice The run has started (or does not exist).
    error RunNotOpen(uint64 run);
    /// @notice The run has not started (or does not exist).
    error RunNotStarted(uint64 run);
    /// @notice The member has no seat in the run.
    error NotASeat(uint64 run, bytes32 member);
    /// @notice A list of members is not sorted, or names one twice.
    error UnsortedMembers(bytes32 previous, bytes32 member);
    /// @notice There would be fewer seats than the run needs.
    error TooFewSeats(uint256 seats, uint256 minSeats);
    /// @notice There would be more seats than the run allows.
    error TooManySeats(uint256 seats, uint256 maxSeats);

    /// @notice How many runs there are; they are numbered from 1.
    function runCount() external view returns (uint64);

    /// @notice A run. Raises UnknownRun.
    function getRun(uint64 run) external view returns (Run memory);

    /// @notice Where a run stands; all zero if there is none.
    function course(uint64 run) external view returns (Course memory);

    /// @notice The newest head of a run, and the state it leads to; zero if there is no run.
    function headOf(uint64 run) external view returns (bytes32 head, bytes32 stateRoot);

    /// @notice Who opened a run; zero if nobody did.
    function ownerOf(uint64 run) external view returns (address owner);

    /// @notice A member's part in a run.
    function membership(uint64 run, bytes32 member) external view returns (Membership memory);

    /// @notice The member that attests with this key in a run; zero if none does.
    function seatOf(uint64 run, address key) external view returns (bytes32 member);
}
