// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Hashes} from "./Hashes.sol";
import {Seats} from "./Seats.sol";
import {Limits, RollCall, Run} from "./Types.sol";

/// @title Roll calls: how a run goes on after losing more than a third of its seats at once.
/// @notice Without a certificate for `stallSeconds` a check-in opens a call. Every seat checks in; a certificate until the
/// close plus a grace cancels it. Closing is an empty round whose seats are those who checked in.
abstract contract RollCalls is Seats {
    bytes32 private constant CHECK_IN_TYPE =
        keccak256("CheckIn(uint64 run,uint64 round,bytes32 head,bytes32 member)");
    uint32 private constant DOUBLINGS_MAX = 8;

    mapping(uint64 run => RollCall) internal _calls;
    mapping(uint64 run => mapping(uint64 call => mapping(bytes32 member => bool))) public checkedIn;

    event CheckedIn(uint64 indexed run, uint64 indexed round, bytes32 indexed member, uint64 closesAt);
    event RollCallFailed(uint64 indexed run, uint64 indexed round, uint32 present, uint32 failures);
    event RollCalled(
        uint64 indexed run,
        uint64 indexed round,
        bytes32 head,
        bytes32 previousHead,
        bytes32 stateRoot,
        bytes32[] drops
    );

    error NotStalled(uint64 mayOpenAt);
    error CallClosed(uint64 closedAt);
    error NoCall();
    error CallStillOpen(uint64 mayCloseAt);
    error AlreadyCheckedIn(bytes32 member);
    error WrongDrops();

    /// @notice The roll call of a run; `closesAt` is zero if none is open.
    function rollCallOf(uint64 run) external view returns (RollCall memory) {
        return _calls[run];
    }

    /// @notice A seat says that it is alive. Its key signs for this head, so anybody may carry the word here: a node key
    /// needs no funds, and an old check-in cannot be used again.
    function checkIn(uint64 run, bytes32 member, bytes calldata keySignature) external {
        Run storage state = _runs[run];
        address key = seatKey[run][member];
        if (key == address(0) || !state.started) revert NotASeat(run, member);
        _requireSigner(key, keccak256(abi.encode(CHECK_IN_TYPE, run, state.round, state.head, member)), keySignature);
        RollCall storage call = _calls[run];
        if (call.closesAt == 0) _openCall(run, call, state);
        if (block.timestamp > call.closesAt) revert CallClosed(call.closesAt);
        if (checkedIn[run][call.number][member]) revert AlreadyCheckedIn(member);
        checkedIn[run][call.number][member] = true;
        call.present++;
        emit CheckedIn(run, state.round, member, call.closesAt);
    }

    /// @notice End a call whose window and grace are over. `drops` are the seats that did not check in, sorted.
    /// @dev With too few present the call failed: the next window is twice as long.
    function closeCall(uint64 run, bytes32[] calldata drops) external {
        RollCall storage call = _calls[run];
        Run storage state = _runs[run];
        if (call.closesAt == 0) revert NoCall();
        uint64 mayCloseAt = call.closesAt + _limits[run].stallSeconds / 2;
        if (block.timestamp < mayCloseAt) revert CallStillOpen(mayCloseAt);
        if (!_enough(run, call.present)) {
            call.closesAt = 0;
            call.failures++;
            state.lastAt = uint64(block.timestamp);
            emit RollCallFailed(run, state.round, call.present, call.failures);
            return;
        }
        if (drops.length + call.present != state.seats) revert WrongDrops();
        for (uint256 i = 0; i < drops.length; i++) {
            if (checkedIn[run][call.number][drops[i]]) revert WrongDrops();
        }
        _drop(run, drops);
        _closeEmptyRound(run, state, drops);
    }

    function _openCall(uint64 run, RollCall storage call, Run storage state) private {
        uint64 stall = _limits[run].stallSeconds;
        if (block.timestamp < state.lastAt + stall) revert NotStalled(state.lastAt + stall);
        uint32 doublings = call.failures < DOUBLINGS_MAX ? call.failures : DOUBLINGS_MAX;
        call.closesAt = uint64(block.timestamp) + (stall << doublings);
        call.number++;
        call.present = 0;
    }

    /// @dev Of the larger of the seats at the epoch's start and now, so that seats cannot be whittled down to captured ones.
    function _enough(uint64 run, uint256 present) private view returns (bool) {
        Limits storage limits = _limits[run];
        Run storage state = _runs[run];
        uint256 base = state.epochSeats > state.seats ? state.epochSeats : state.seats;
        return present >= 1 && present >= limits.minSeats
            && present * limits.rollCallDenominator >= base * limits.rollCallNumerator;
    }

    function _closeEmptyRound(uint64 run, Run storage state, bytes32[] calldata drops) private {
        bytes32 previous = state.head;
        uint64 round = state.round + 1;
        _advance(run, round, Hashes.rollCallHead(previous, round, state.stateRoot, drops));
        emit RollCalled(run, round, state.head, previous, state.stateRoot, drops);
    }

    /// @dev A new head ends any roll call, and the beacon moves on.
    function _advance(uint64 run, uint64 round, bytes32 head) internal {
        Run storage state = _runs[run];
        state.round = round;
        state.head = head;
        state.beacon = keccak256(abi.encode(state.beacon, head, blockhash(block.number - 1)));
        state.lastAt = uint64(block.timestamp);
        RollCall storage call = _calls[run];
        if (call.closesAt != 0) call.closesAt = 0;
        if (call.failures != 0) call.failures = 0;
    }
}
