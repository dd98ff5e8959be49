// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Members} from "./Members.sol";
import {Promotion, Run, Limits} from "./Types.sol";

/// @title Seats: who attests in a run, with which key. They change only by a certificate or a roll call.
abstract contract Seats is Members {
    uint256 internal constant CHANGES_MAX = 32;

    mapping(uint64 run => Run) internal _runs;
    mapping(uint64 run => Limits) internal _limits;
    mapping(uint64 run => mapping(bytes32 member => address)) public seatKey;
    mapping(uint64 run => mapping(address key => bytes32)) public seatOfKey;

    error NotASeat(uint64 run, bytes32 member);
    error NotSorted();
    error TooManyChanges(uint256 changes);
    error KeyNeverRegistered(bytes32 member, address key);
    error AlreadyPromoted(bytes32 member, address key);
    error TooManySeats(uint256 seats, uint256 maxSeats);
    error TooFewSeats(uint256 seats, uint256 minSeats);

    function _addSeat(uint64 run, bytes32 member, address key) internal {
        seatKey[run][member] = key;
        seatOfKey[run][key] = member;
        _runs[run].seats++;
    }

    function _removeSeat(uint64 run, bytes32 member) internal {
        address key = seatKey[run][member];
        if (key == address(0)) revert NotASeat(run, member);
        delete seatOfKey[run][key];
        delete seatKey[run][member];
        _runs[run].seats--;
    }

    /// @dev Sorted, so each member is named once. A pair that was ever registered is accepted: who left or rotated
    /// meanwhile is a seat with that key until the next certificate, so nobody can stall a certificate that is under way.
    function _promote(uint64 run, Promotion[] calldata promotions) internal {
        if (promotions.length > CHANGES_MAX) revert TooManyChanges(promotions.length);
        bytes32 last;
        for (uint256 i = 0; i < promotions.length; i++) {
            bytes32 member = promotions[i].member;
            address key = promotions[i].key;
            if (member <= last) revert NotSorted();
            last = member;
            if (memberOfKey[key] != member) revert KeyNeverRegistered(member, key);
            if (seatKey[run][member] == key) revert AlreadyPromoted(member, key);
            if (seatKey[run][member] != address(0)) _removeSeat(run, member);
            _addSeat(run, member, key);
        }
        if (promotions.length != 0 && _runs[run].seats > _limits[run].maxSeats) {
            revert TooManySeats(_runs[run].seats, _limits[run].maxSeats);
        }
    }

    function _drop(uint64 run, bytes32[] calldata drops) internal {
        bytes32 last;
        for (uint256 i = 0; i < drops.length; i++) {
            if (drops[i] <= last) revert NotSorted();
            last = drops[i];
            _removeSeat(run, drops[i]);
        }
    }
}
