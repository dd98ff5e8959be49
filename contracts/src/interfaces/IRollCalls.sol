// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRuns} from "./IRuns.sol";

/// @title Roll calls: how a run goes on after more than a third of its seats vanished.
/// @notice No certificate can drop them then. After `stallSeconds` without a head a seat opens a window by checking in;
/// all that are alive check in as well. If enough did, whoever likes closes the call: an empty round, whose seats are
/// those who checked in. A certificate that lands first cancels it.
interface IRollCalls is IRuns {
    /// @notice A seat is alive. `round` is the round that the call ends if it closes, after `closesAt` plus the grace.
    event CheckedIn(
        uint64 indexed run, bytes32 indexed member, uint64 round, uint32 call, uint64 closesAt, uint64 closableAt
    );
    /// @notice A roll call ended the round: an empty one, without the seats that did not check in.
    event RollCalled(
        uint64 indexed run,
        uint64 indexed round,
        bytes32 head,
        bytes32 previousHead,
        bytes32 stateRoot,
        bytes32[] drops
    );

    /// @notice The run has a head that is not old enough.
    error NotStalled(uint256 opensAt);
    /// @notice The sender is no seat's key.
    error NotASeatSender(uint64 run, address sender);
    /// @notice The seat has checked in to this call.
    error AlreadyCheckedIn(uint64 run, bytes32 member);
    /// @notice The window is over, and certificates may still land until the grace is.
    error WindowClosed(uint256 closableAt);
    /// @notice Enough seats checked in: close the call instead.
    error RollCallComplete(uint256 checkedIn);
    /// @notice There is no roll call in this round.
    error NoRollCall(uint64 run);
    /// @notice The window or its grace is not over.
    error NotClosable(uint256 closableAt);
    /// @notice Too few seats checked in: the next check-in opens a longer window.
    error TooFewCheckedIn(uint256 checkedIn, uint256 needed);
    /// @notice The drops are not all seats that did not check in.
    error DropsDiffer(uint256 given, uint256 absent);
    /// @notice This seat did check in.
    error SeatCheckedIn(bytes32 member);

    /// @notice Say that a seat is alive, with its own key: opens a roll call, or joins the open one.
    /// @dev Sent by the seat's key itself and not relayed: it has to be fresh, and needs no nonce and no format then.
    function checkIn(uint64 run) external;

    /// @notice End the round by the roll call; anyone may.
    /// @param drops all seats that did not check in, sorted: given by the caller so that no list of seats is kept
    function closeRollCall(uint64 run, bytes32[] calldata drops) external;

    /// @notice The newest roll call of a run, and how many check-ins it needs with the seats of now.
    function rollCall(uint64 run) external view returns (RollCall memory call, uint256 needed, uint64 closableAt);
}
