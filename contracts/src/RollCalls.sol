// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Heads} from "./libraries/Heads.sol";
import {IRollCalls} from "./interfaces/IRollCalls.sol";
import {Runs} from "./Runs.sol";

/// @title Roll calls: how a run goes on after a mass loss.
abstract contract RollCalls is IRollCalls, Runs {
    uint8 private constant _DOUBLINGS_MAX = 8;
    /// @dev A quarter of `stallSeconds`: time for a certificate that was sent before the window closed to be mined.
    uint256 private constant _GRACE_DIVISOR = 4;

    mapping(uint64 run => RollCall) private _rollCalls;

    /// @inheritdoc IRollCalls
    function checkIn(uint64 run) external {
        bytes32 member = _seatOfKey[run][msg.sender];
        if (member == 0) revert NotASeatSender(run, msg.sender);
        StoredRun storage found = _runs[run];
        if (found.progress.state != RunState.Started) revert RunNotStarted(run);
        RollCall memory call = _openCall(found, _rollCalls[run]);
        Membership storage entry = _memberships[run][member];
        if (entry.checkedIn == call.call) revert AlreadyCheckedIn(run, member);
        entry.checkedIn = call.call;
        ++call.checkedIn;
        _rollCalls[run] = call;
        emit CheckedIn(run, member, call.round, call.call, call.closesAt, _closableAt(found, call));
    }

    /// @inheritdoc IRollCalls
    function closeRollCall(uint64 run, bytes32[] calldata drops) external {
        StoredRun storage found = _runs[run];
        Course memory progress = found.progress;
        RollCall memory call = _rollCalls[run];
        _checkClosable(run, found, progress, call);
        if (drops.length != progress.seats - call.checkedIn) {
            revert DropsDiffer(drops.length, progress.seats - call.checkedIn);
        }
        bytes32 previous = 0;
        for (uint256 i = 0; i < drops.length; ++i) {
            _checkSorted(previous, drops[i]);
            previous = drops[i];
            if (_memberships[run][previous].checkedIn == call.call) revert SeatCheckedIn(previous);
            _unseat(run, previous);
        }
        progress.seats = call.checkedIn;
        (bytes32 before, bytes32 stateRoot) = (found.head, found.stateRoot);
        bytes32 head = Heads.rollCall(before, call.round, stateRoot, drops);
        _advance(found, progress, head);
        emit RollCalled(run, call.round, head, before, stateRoot, drops);
    }

    /// @inheritdoc IRollCalls
    function rollCall(uint64 run) external view returns (RollCall memory call, uint256 needed, uint64 closableAt) {
        StoredRun storage found = _existingRun(run);
        call = _rollCalls[run];
        return (call, _needed(found, found.progress), _closableAt(found, call));
    }

    /// @dev The call to check in to: the one whose window is open, or a new one.
    function _openCall(StoredRun storage run, RollCall memory call) private view returns (RollCall memory) {
        uint64 round = run.progress.round + 1;
        uint8 failures = 0;
        if (call.round == round) {
            if (block.timestamp < call.closesAt) return call;
            uint64 closableAt = _closableAt(run, call);
            if (block.timestamp < closableAt) revert WindowClosed(closableAt);
            if (call.checkedIn >= _needed(run, run.progress)) revert RollCallComplete(call.checkedIn);
            failures = call.failures < _DOUBLINGS_MAX ? call.failures + 1 : _DOUBLINGS_MAX;
        } else {
            uint256 opensAt = uint256(run.progress.headAt) + run.limits.stallSeconds;
            if (block.timestamp < opensAt) revert NotStalled(opensAt);
        }
        uint256 closesAt = block.timestamp + (uint256(run.limits.stallSeconds) << failures);
        return RollCall(call.call + 1, round, uint64(closesAt), failures, 0);
    }

    function _checkClosable(uint64 id, StoredRun storage run, Course memory progress, RollCall memory call) private view {
        if (call.call == 0 || call.round != progress.round + 1) revert NoRollCall(id);
        uint64 closableAt = _closableAt(run, call);
        if (block.timestamp < closableAt) revert NotClosable(closableAt);
        uint256 needed = _needed(run, progress);
        if (call.checkedIn < needed) revert TooFewCheckedIn(call.checkedIn, needed);
    }

    function _closableAt(StoredRun storage run, RollCall memory call) private view returns (uint64) {
        uint256 grace = (run.limits.stallSeconds + _GRACE_DIVISOR - 1) / _GRACE_DIVISOR;
        return uint64(call.closesAt + grace);
    }

    /// @dev A share of the larger of the seats at the epoch's start and the seats now, rounded up: roll call after roll
    /// call cannot whittle the seats down to captured ones.
    function _needed(StoredRun storage run, Course memory progress) private view returns (uint256) {
        uint256 seats = progress.epochSeats > progress.seats ? progress.epochSeats : progress.seats;
        uint256 denominator = run.limits.rollCallDenominator;
        return (seats * run.limits.rollCallNumerator + denominator - 1) / denominator;
    }
}
