// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Beacons} from "./libraries/Beacons.sol";
import {IRuns} from "./interfaces/IRuns.sol";

/// @title Runs: their storage, heads and seats.
/// @dev Seats are kept by member and by key, in no list: nothing ever loops over them, and callers that need all of them
/// in order (`start`, `closeRollCall`) bring them, known from events, to be checked one by one against the count.
abstract contract Runs is IRuns {
    /// @inheritdoc IRuns
    uint64 public runCount;

    /// @dev `Run` as it is stored, and the door: who asks for a stake there, and whether anybody came through.
    struct StoredRun {
        bytes32 head;
        bytes32 stateRoot;
        bytes32 beacon;
        Course progress;
        Limits limits;
        address owner;
        bytes32 recipeHash;
        Parent parent;
        address stakes;
        bool entered;
    }

    mapping(uint64 run => StoredRun) internal _runs;
    mapping(uint64 run => mapping(bytes32 member => Membership)) internal _memberships;
    mapping(uint64 run => mapping(address key => bytes32 member)) internal _seatOfKey;

    /// @inheritdoc IRuns
    function getRun(uint64 run) external view returns (Run memory) {
        StoredRun storage found = _existingRun(run);
        return Run(
            found.head,
            found.stateRoot,
            found.beacon,
            _told(found.progress),
            found.limits,
            found.owner,
            found.recipeHash,
            found.parent
        );
    }

    /// @inheritdoc IRuns
    function course(uint64 run) external view returns (Course memory) {
        return _runs[run].progress;
    }

    /// @inheritdoc IRuns
    function headOf(uint64 run) external view returns (bytes32 head, bytes32 stateRoot) {
        StoredRun storage found = _runs[run];
        return (found.head, found.stateRoot);
    }

    /// @inheritdoc IRuns
    function ownerOf(uint64 run) external view returns (address owner) {
        return _runs[run].owner;
    }

    /// @inheritdoc IRuns
    function membership(uint64 run, bytes32 member) external view returns (Membership memory) {
        return _memberships[run][member];
    }

    /// @inheritdoc IRuns
    function seatOf(uint64 run, address key) external view returns (bytes32 member) {
        return _seatOfKey[run][key];
    }

    function _existingRun(uint64 id) internal view returns (StoredRun storage run) {
        run = _runs[id];
        if (run.progress.state == RunState.None) revert UnknownRun(id);
    }

    function _told(Course memory kept) private pure returns (Progress memory) {
        return Progress(kept.round, kept.headAt, kept.seats, kept.epochSeats, kept.epochRoundsLeft, kept.state);
    }

    /// @dev The one way to a new head: a round later, now.
    function _advance(StoredRun storage run, Course memory progress, bytes32 head) internal {
        ++progress.round;
        _setHead(run, progress, head);
    }

    /// @dev Writes everything that comes with a head, but the state root.
    function _setHead(StoredRun storage run, Course memory progress, bytes32 head) internal {
        progress.headAt = uint64(block.timestamp);
        run.progress = progress;
        run.head = head;
        run.beacon = Beacons.next(run.beacon, head);
    }

    /// @dev Gives a member a seat, or its seat another key.
    /// @return added 1 if that is a seat more, otherwise 0
    function _seat(uint64 run, bytes32 member, address key) internal returns (uint16 added) {
        Membership storage found = _memberships[run][member];
        address old = found.seatKey;
        if (old == key) return 0;
        if (old == address(0)) added = 1;
        else delete _seatOfKey[run][old];
        found.seatKey = key;
        _seatOfKey[run][key] = member;
    }

    /// @dev Takes a member's seat away. Reverts if it has none.
    function _unseat(uint64 run, bytes32 member) internal {
        Membership storage found = _memberships[run][member];
        address key = found.seatKey;
        if (key == address(0)) revert NotASeat(run, member);
        delete _seatOfKey[run][key];
        delete found.seatKey;
    }

    /// @dev Sorted and each once, so that a count of them says something. Begin with zero: no member has that id.
    function _checkSorted(bytes32 previous, bytes32 member) internal pure {
        if (member <= previous) revert UnsortedMembers(previous, member);
    }
}
