// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRuns} from "../src/interfaces/IRuns.sol";
import {Scene, Targets} from "./Scene.sol";

/// @title A run whose seats certify with any number of signatures, drop one another, and check in.
contract Seats is Scene {
    uint256 public rounds;
    uint256 public worked;
    bool public isWrong;

    constructor() {
        _deploy();
        _openRun();
        registry.start(run, members);
    }

    function certify(bool isEmpty, uint256 signatures) external {
        _try(isEmpty, new bytes32[](0), signatures % (SEATS + 1));
    }

    function drop(uint256 i, uint256 signatures) external {
        bytes32[] memory drops = new bytes32[](1);
        drops[0] = members[i % SEATS];
        _try(false, drops, signatures % (SEATS + 1));
    }

    function checkIn(uint256 i) external {
        _pass(600);
        vm.prank(registry.membership(run, members[i % SEATS]).seatKey);
        registry.checkIn(run);
    }

    function wait(uint256 time) external {
        _pass(time % 1_000);
    }

    function course() external view returns (IRuns.Course memory) {
        return registry.course(run);
    }

    function seatCount() external view returns (uint256) {
        return _seatCount();
    }

    function checkQuorum(bytes32 digest, uint256 signatures) external {
        (uint256 count, uint256 seats) = (signatures % (SEATS + 1), _seatCount());
        if (count > seats) count = seats;
        bool enough = 3 * count >= 2 * seats;
        try registry.checkQuorum(run, digest, _signatures(digest, count)) {
            if (!enough) isWrong = true;
        } catch {
            if (enough) isWrong = true;
        }
    }

    function _try(bool isEmpty, bytes32[] memory drops, uint256 signatures) private {
        uint256 seats = _seatCount();
        if (signatures > seats) signatures = seats;
        if (!_certify(isEmpty, drops, signatures)) return;
        ++rounds;
        if (!isEmpty) ++worked;
        if (3 * signatures < 2 * seats) isWrong = true;
    }
}

contract RunRegistryInvariants is Targets {
    Seats private _seats;

    function setUp() external {
        _seats = new Seats();
        _target(address(_seats));
    }

    function invariant_rounds_have_no_gaps_and_work_is_counted() external view {
        IRuns.Course memory course = _seats.course();
        assert(course.round == _seats.rounds() && course.worked == _seats.worked());
    }

    function invariant_seats_are_counted() external view {
        assert(_seats.course().seats == _seats.seatCount() && _seats.seatCount() > 0);
    }

    function invariant_less_than_two_thirds_decide_nothing() external view {
        assert(!_seats.isWrong());
    }
}
