// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Heads} from "./libraries/Heads.sol";
import {Quorum} from "./libraries/Quorum.sol";
import {IRounds} from "./interfaces/IRounds.sol";
import {Members} from "./Members.sol";
import {Runs} from "./Runs.sol";

/// @title Rounds: certificates.
abstract contract Rounds is IRounds, Runs, Members {
    uint256 private constant _CHANGES_MAX = 32;

    /// @inheritdoc IRounds
    function certify(Body calldata body, bytes calldata signatures) external {
        StoredRun storage run = _runs[body.run];
        Course memory progress = run.progress;
        _checkSuccession(run, progress, body);
        bytes32 digest = _hashTypedDataV4(Heads.bodyHash(body));
        Quorum.check(_seatOfKey[body.run], progress.seats, digest, signatures);
        if (body.promotions.length != 0 || body.drops.length != 0) {
            progress.seats = _changeSeats(run.limits, progress.seats, body);
        }
        if (body.updatesRoot != 0) {
            run.stateRoot = body.stateRoot;
            ++progress.worked;
            _countEpoch(run.limits, progress);
        }
        bytes32 head = Heads.certificate(body);
        _advance(run, progress, head);
        _emitCertified(body, head);
    }

    /// @inheritdoc IRounds
    function checkQuorum(uint64 run, bytes32 digest, bytes calldata signatures) external view {
        Course memory progress = _runs[run].progress;
        if (progress.state != RunState.Started) revert RunNotStarted(run);
        Quorum.check(_seatOfKey[run], progress.seats, digest, signatures);
    }

    function _checkSuccession(StoredRun storage run, Course memory progress, Body calldata body) private view {
        if (progress.state != RunState.Started) revert RunNotStarted(body.run);
        if (body.round != progress.round + 1) revert WrongRound(body.round, progress.round + 1);
        if (body.previousHead != run.head) revert WrongPreviousHead(body.previousHead, run.head);
        if (body.updatesRoot == 0 && body.stateRoot != run.stateRoot) {
            revert EmptyRoundChangesState(body.stateRoot, run.stateRoot);
        }
    }

    /// @dev Limits count after both: a certificate may replace a seat in a run that has no more than it needs.
    function _changeSeats(Limits storage limits, uint16 seats, Body calldata body) private returns (uint16) {
        (uint256 promotions, uint256 drops) = (body.promotions.length, body.drops.length);
        if (promotions > _CHANGES_MAX || drops > _CHANGES_MAX) revert TooManyChanges(promotions, drops);
        seats -= _drop(body.run, body.drops);
        seats += _promote(body.run, body.promotions, body.drops);
        if (promotions != 0 && seats > limits.maxSeats) revert TooManySeats(seats, limits.maxSeats);
        if (drops != 0 && seats < limits.minSeats) revert TooFewSeats(seats, limits.minSeats);
        return seats;
    }

    function _drop(uint64 run, bytes32[] calldata drops) private returns (uint16) {
        bytes32 previous = 0;
        for (uint256 i = 0; i < drops.length; ++i) {
            _checkSorted(previous, drops[i]);
            previous = drops[i];
            _unseat(run, previous);
        }
        return uint16(drops.length);
    }

    /// @dev Both lists are sorted, so one walk over both finds who is in both.
    function _promote(uint64 run, Promotion[] calldata promotions, bytes32[] calldata drops)
        private
        returns (uint16 added)
    {
        bytes32 previous = 0;
        uint256 dropAt = 0;
        for (uint256 i = 0; i < promotions.length; ++i) {
            (bytes32 member, address key) = (promotions[i].member, promotions[i].key);
            _checkSorted(previous, member);
            previous = member;
            if (_memberOfKey[key] != member) revert NeverRegistered(member, key);
            while (dropAt < drops.length && drops[dropAt] < member) ++dropAt;
            if (dropAt < drops.length && drops[dropAt] == member) revert PromotedAndDropped(member);
            added += _seat(run, member, key);
        }
    }

    /// @dev Empty rounds do not count: otherwise epochs would pass, and the seats be whittled down, by roll calls alone.
    function _countEpoch(Limits storage limits, Course memory progress) private view {
        if (--progress.epochRoundsLeft != 0) return;
        progress.epochRoundsLeft = limits.epochRounds;
        progress.epochSeats = progress.seats;
    }

    function _emitCertified(Body calldata body, bytes32 head) private {
        emit Certified(
            body.run,
            body.round,
            head,
            body.previousHead,
            body.updatesRoot,
            body.stateRoot,
            body.trainersRoot,
            body.promotions,
            body.drops
        );
    }
}
