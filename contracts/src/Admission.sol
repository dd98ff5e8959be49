// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Heads} from "./libraries/Heads.sol";
import {IAdmission} from "./interfaces/IAdmission.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {Members} from "./Members.sol";
import {Runs} from "./Runs.sol";

/// @title Admission: how a run begins, and who takes part.
abstract contract Admission is IAdmission, Runs, Members {
    uint256 internal constant SEATS_MAX = 64;
    uint256 private constant _STALL_SECONDS_MAX = 30 days;
    uint256 private constant _ENDPOINT_BYTES_MAX = 256;
    bytes32 private constant _INVITATION = keccak256("Invitation(uint64 run,bytes32 member)");
    bytes32 private constant _JOIN = keccak256("Join(uint64 run,bytes32 member)");

    /// @inheritdoc IAdmission
    function open(Origin calldata origin, Limits calldata limits) external returns (uint64 run) {
        if (origin.recipeHash == 0 || origin.stateRoot == 0) revert MissingHash();
        _checkLimits(limits);
        _checkParent(origin.parent);
        run = ++runCount;
        StoredRun storage opened = _runs[run];
        bytes32 head = Heads.genesis(run, origin);
        opened.head = head;
        opened.stateRoot = origin.stateRoot;
        opened.progress.state = RunState.Open;
        opened.limits = limits;
        opened.owner = msg.sender;
        opened.recipeHash = origin.recipeHash;
        opened.parent = origin.parent;
        _emitOpened(run, origin, head);
    }

    /// @inheritdoc IAdmission
    function requireStake(uint64 run, address stakes) external {
        StoredRun storage found = _ownOpenRun(run);
        if (found.stakes != address(0)) revert StakeAlreadyRequired(run, found.stakes);
        if (found.entered) revert MembersEntered(run);
        if (stakes.code.length == 0) revert NoStakes(stakes);
        found.stakes = stakes;
        emit StakeRequired(run, stakes);
    }

    /// @inheritdoc IAdmission
    function stakesOf(uint64 run) external view returns (address stakes) {
        return _runs[run].stakes;
    }

    /// @inheritdoc IAdmission
    function join(uint64 run, bytes32 member, bytes calldata signature, bytes calldata invitation) external {
        StoredRun storage joined = _existingRun(run);
        Membership storage entry = _memberships[run][member];
        address key = _existing(member).key;
        if (entry.part == Part.Joined) revert AlreadyJoined(run, member);
        if (msg.sender != key) {
            if (entry.part == Part.Left) revert RejoinOnlyByKey(run, member);
            _checkSigner(key, keccak256(abi.encode(_JOIN, run, member)), signature);
        }
        if (!joined.limits.openAdmission) {
            _checkSigner(joined.owner, keccak256(abi.encode(_INVITATION, run, member)), invitation);
        }
        _enter(joined, run, member);
        entry.part = Part.Joined;
        uint16 seats = joined.progress.seats;
        bool seat = joined.progress.state == RunState.Open && seats < joined.limits.maxSeats;
        if (seat) joined.progress.seats = seats + _seat(run, member, key);
        emit Joined(run, member, key, seat);
    }

    /// @inheritdoc IAdmission
    function leaveRun(uint64 run, bytes32 member) external {
        Membership storage entry = _joined(run, member);
        entry.part = Part.Left;
        Course storage progress = _runs[run].progress;
        if (progress.state == RunState.Open && entry.seatKey != address(0)) {
            _unseat(run, member);
            --progress.seats;
        }
        emit Left(run, member);
    }

    /// @inheritdoc IAdmission
    function announce(uint64 run, bytes32 member, string calldata endpoint) external {
        uint256 length = bytes(endpoint).length;
        if (length > _ENDPOINT_BYTES_MAX) revert EndpointTooLong(length, _ENDPOINT_BYTES_MAX);
        _joined(run, member);
        emit Announced(run, member, endpoint);
    }

    /// @inheritdoc IAdmission
    function start(uint64 run, bytes32[] calldata members) external {
        StoredRun storage started = _ownOpenRun(run);
        Course memory progress = started.progress;
        if (members.length != progress.seats) revert SeatsDiffer(members.length, progress.seats);
        if (members.length < started.limits.minSeats) revert TooFewSeats(members.length, started.limits.minSeats);
        address[] memory keys = _currentKeys(run, members);
        bytes32 head = Heads.start(started.head, members, keys);
        progress.state = RunState.Started;
        progress.epochSeats = progress.seats;
        progress.epochRoundsLeft = started.limits.epochRounds;
        _setHead(started, progress, head);
        emit Started(run, head, members, keys);
    }

    /// @dev Asks for the stake, where one is asked for. Says once for each run that somebody is in: from then on it is too
    /// late to ask, since who is in would not have been asked.
    function _enter(StoredRun storage run, uint64 id, bytes32 member) private {
        address stakes = run.stakes;
        if (stakes != address(0) && !IStakeManager(stakes).isActive(id, member)) revert NotStaked(id, member);
        if (!run.entered) run.entered = true;
    }

    /// @dev A run that has not started, for its owner.
    function _ownOpenRun(uint64 id) private view returns (StoredRun storage run) {
        run = _existingRun(id);
        if (run.progress.state != RunState.Open) revert RunNotOpen(id);
        if (run.owner != msg.sender) revert NotOwner(id, msg.sender);
    }

    /// @dev No head has fixed the seats' keys yet, so the ones of now count, also if rotated since joining.
    function _currentKeys(uint64 run, bytes32[] calldata members) private returns (address[] memory keys) {
        keys = new address[](members.length);
        bytes32 previous = 0;
        for (uint256 i = 0; i < members.length; ++i) {
            bytes32 member = members[i];
            _checkSorted(previous, member);
            if (_memberships[run][member].seatKey == address(0)) revert NotASeat(run, member);
            keys[i] = _members[member].key;
            _seat(run, member, keys[i]);
            previous = member;
        }
    }

    /// @dev The part of a member that takes part, for the member's own use.
    function _joined(uint64 run, bytes32 member) private view returns (Membership storage entry) {
        StoredMember storage found = _existing(member);
        if (msg.sender != found.key && msg.sender != found.controller) revert NotMember(member, msg.sender);
        entry = _memberships[run][member];
        if (entry.part != Part.Joined) revert NotJoined(run, member);
    }

    function _checkLimits(Limits calldata limits) private pure {
        (uint256 least, uint256 most) = (limits.minSeats, limits.maxSeats);
        if (least == 0 || least > most || most > SEATS_MAX) revert BadSeatLimits(least, most);
        uint256 stall = limits.stallSeconds;
        if (stall == 0 || stall > _STALL_SECONDS_MAX) revert BadStallSeconds(stall);
        (uint256 numerator, uint256 denominator) = (limits.rollCallNumerator, limits.rollCallDenominator);
        if (numerator == 0 || numerator > denominator) revert BadRollCallShare(numerator, denominator);
        if (limits.epochRounds == 0) revert BadEpochRounds();
    }

    /// @dev Mistakes only. Heads of past rounds are not kept: who replays a child checks its parent against the events.
    function _checkParent(Parent calldata parent) private view {
        if (parent.run == 0) {
            if (parent.round != 0 || parent.head != 0) revert BadParent(parent.run);
            return;
        }
        StoredRun storage found = _runs[parent.run];
        if (found.progress.state != RunState.Started) revert BadParent(parent.run);
        uint64 reached = found.progress.round;
        if (parent.round > reached) revert ParentRoundAhead(parent.round, reached);
        if (parent.round == reached && parent.head != found.head) revert WrongParentHead(parent.head, found.head);
    }

    function _emitOpened(uint64 run, Origin calldata origin, bytes32 genesisHead) private {
        emit RunOpened(
            run,
            msg.sender,
            origin.recipeHash,
            origin.stateRoot,
            origin.dataHash,
            origin.tokenizerHash,
            origin.parent.run,
            origin.parent.round,
            origin.parent.head,
            genesisHead
        );
    }
}
