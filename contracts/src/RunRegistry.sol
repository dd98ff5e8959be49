// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Hashes} from "./Hashes.sol";
import {RollCalls} from "./RollCalls.sol";
import {Body, Limits, Opening, Promotion, Run} from "./Types.sol";

/// @title RunRegistry: order and membership of training runs.
/// @notice The first valid certificate for a run's current round is the round, for everyone. What a head means is frozen
/// in the transaction that made it: a join, leave or rotation that lands in between takes effect with a later head.
/// @dev Immutable, no owner, no money. Work in `certify` is bounded by the signatures and 32 changes of each kind.
contract RunRegistry is RollCalls {
    bytes32 private constant INVITATION_TYPE = keccak256("Invitation(uint64 run,bytes32 member)");
    bytes32 private constant JOIN_TYPE = keccak256("Join(uint64 run,bytes32 member)");
    uint256 private constant SEATS_MAX = 64;
    uint256 private constant ENDPOINT_MAX = 256;

    uint64 public runs;
    mapping(uint64 run => bytes32) public genesisOf;
    mapping(uint64 run => mapping(bytes32 member => bool)) public joined;

    event RunOpened(
        uint64 indexed run,
        address indexed owner,
        bytes32 recipeHash,
        bytes32 stateRoot,
        bytes32 dataHash,
        bytes32 tokenizerHash,
        uint64 parentRun,
        uint64 parentRound,
        bytes32 parentHead,
        bytes32 genesisHead
    );
    event Joined(uint64 indexed run, bytes32 indexed member, address key, bool seat);
    event Left(uint64 indexed run, bytes32 indexed member);
    event Announced(uint64 indexed run, bytes32 indexed member, string endpoint);
    event Started(uint64 indexed run, bytes32 head, bytes32[] seats, address[] keys);
    event Certified(
        uint64 indexed run,
        uint64 indexed round,
        bytes32 head,
        bytes32 previousHead,
        bytes32 updatesRoot,
        bytes32 stateRoot,
        bytes32 trainersRoot,
        Promotion[] promotions,
        bytes32[] drops
    );

    error ImpossibleLimits();
    error UnknownRun(uint64 run);
    error NotOwner(uint64 run, address sender);
    error AlreadyStarted(uint64 run);
    error NotStarted(uint64 run);
    error AlreadyJoined(bytes32 member);
    error NotJoined(bytes32 member);
    error NotInvited(bytes32 member);
    error NotEntitled(bytes32 member, address sender);
    error EndpointTooLong(uint256 size);
    error WrongSeats();
    error WrongRound(uint64 round, uint64 expected);
    error WrongHead(bytes32 head, bytes32 expected);
    error EmptyRoundChangesState();
    error TooSoon(uint64 notBefore);
    error SignaturesMalformed();
    error SignersNotSorted(address signer);
    error SignerNotASeat(address signer);
    error NoQuorum(uint256 signatures, uint256 seats);

    /// @notice Where a run stands.
    function runOf(uint64 run) external view returns (Run memory) {
        return _runs[run];
    }

    /// @notice The limits of a run.
    function limitsOf(uint64 run) external view returns (Limits memory) {
        return _limits[run];
    }

    /// @notice Open a run: from now on members join, and are seats at once.
    function open(Opening calldata opening, Limits calldata limits) external returns (uint64 run) {
        if (
            limits.minSeats == 0 || limits.maxSeats < limits.minSeats || limits.maxSeats > SEATS_MAX
                || limits.stallSeconds == 0 || limits.epochRounds == 0 || limits.rollCallNumerator == 0
                || limits.rollCallDenominator < limits.rollCallNumerator
        ) revert ImpossibleLimits();
        run = ++runs;
        Run storage state = _runs[run];
        state.owner = msg.sender;
        state.stateRoot = opening.stateRoot;
        _limits[run] = limits;
        bytes32 genesis = Hashes.genesisHead(run, opening);
        genesisOf[run] = genesis;
        emit RunOpened(
            run,
            msg.sender,
            opening.recipeHash,
            opening.stateRoot,
            opening.dataHash,
            opening.tokenizerHash,
            opening.parentRun,
            opening.parentRound,
            opening.parentHead,
            genesis
        );
    }

    /// @notice Take part. The node key signs, so nobody is entered against its will; anybody may carry it here.
    /// @param invitation The owner's signature; empty where the run is open to anybody.
    function join(uint64 run, bytes32 member, bytes calldata keySignature, bytes calldata invitation) external {
        Run storage state = _existing(run);
        address key = _keyOf(member);
        if (joined[run][member]) revert AlreadyJoined(member);
        _requireSigner(key, keccak256(abi.encode(JOIN_TYPE, run, member)), keySignature);
        if (!_limits[run].openAdmission) _requireInvitation(run, member, state.owner, invitation);
        joined[run][member] = true;
        bool seat = !state.started;
        if (seat) {
            if (state.seats >= _limits[run].maxSeats) revert TooManySeats(state.seats, _limits[run].maxSeats);
            _addSeat(run, member, key);
        }
        emit Joined(run, member, key, seat);
    }

    /// @notice Take part no longer. A seat attests until a certificate drops it; before the start it is gone at once.
    function depart(uint64 run, bytes32 member) external {
        Run storage state = _existing(run);
        _requireEntitled(member);
        if (!joined[run][member]) revert NotJoined(member);
        joined[run][member] = false;
        if (!state.started) _removeSeat(run, member);
        emit Left(run, member);
    }

    /// @notice Tell newcomers where to ask first. An event only: nobody's address stays in the state.
    function announce(uint64 run, bytes32 member, string calldata endpoint) external {
        _existing(run);
        _requireEntitled(member);
        if (!joined[run][member]) revert NotJoined(member);
        if (bytes(endpoint).length > ENDPOINT_MAX) revert EndpointTooLong(bytes(endpoint).length);
        emit Announced(run, member, endpoint);
    }

    /// @notice Make the first head. `seats` are all members that joined, sorted: the caller says which it expects.
    function start(uint64 run, bytes32[] calldata seats) external {
        Run storage state = _existing(run);
        if (msg.sender != state.owner) revert NotOwner(run, msg.sender);
        if (state.started) revert AlreadyStarted(run);
        if (seats.length < _limits[run].minSeats) revert TooFewSeats(seats.length, _limits[run].minSeats);
        if (seats.length != state.seats) revert WrongSeats();
        address[] memory keys = new address[](seats.length);
        bytes32 last;
        for (uint256 i = 0; i < seats.length; i++) {
            if (seats[i] <= last) revert NotSorted();
            last = seats[i];
            keys[i] = seatKey[run][last];
            if (keys[i] == address(0)) revert NotASeat(run, last);
        }
        state.started = true;
        state.epochSeats = state.seats;
        _advance(run, 0, Hashes.startHead(genesisOf[run], seats, keys));
        emit Started(run, state.head, seats, keys);
    }

    /// @notice End a round. Anybody may submit; `signatures` are 65 bytes each, in ascending order of their signers.
    function certify(Body calldata body, bytes calldata signatures) external {
        Run storage state = _existing(body.run);
        if (!state.started) revert NotStarted(body.run);
        if (body.round != state.round + 1) revert WrongRound(body.round, state.round + 1);
        if (body.previousHead != state.head) revert WrongHead(body.previousHead, state.head);
        uint64 notBefore = state.lastAt + _limits[body.run].roundSecondsMin;
        if (state.round != 0 && block.timestamp < notBefore) revert TooSoon(notBefore);
        if (body.updatesRoot == 0 && body.stateRoot != state.stateRoot) revert EmptyRoundChangesState();
        _requireQuorum(body, signatures, state.seats);
        _changeSeats(body, state);
        state.stateRoot = body.stateRoot;
        if (body.updatesRoot != 0) _countEpoch(body.run, state);
        _advance(body.run, body.round, Hashes.certifiedHead(body));
        emit Certified(
            body.run,
            body.round,
            state.head,
            body.previousHead,
            body.updatesRoot,
            body.stateRoot,
            body.trainersRoot,
            body.promotions,
            body.drops
        );
    }

    function _existing(uint64 run) private view returns (Run storage state) {
        state = _runs[run];
        if (state.owner == address(0)) revert UnknownRun(run);
    }

    function _requireInvitation(uint64 run, bytes32 member, address owner, bytes calldata invitation) private view {
        if (invitation.length == 0) revert NotInvited(member);
        _requireSigner(owner, keccak256(abi.encode(INVITATION_TYPE, run, member)), invitation);
    }

    /// @dev The node key may act for its member where only presence is at stake: the machine leaves and moves by itself.
    function _requireEntitled(bytes32 member) private view {
        address key = _keyOf(member);
        if (msg.sender != key && msg.sender != _members[member].controller) revert NotEntitled(member, msg.sender);
    }

    function _requireQuorum(Body calldata body, bytes calldata signatures, uint256 seats) private view {
        if (signatures.length % 65 != 0) revert SignaturesMalformed();
        uint256 count = signatures.length / 65;
        if (seats < 1 || 3 * count < 2 * seats) revert NoQuorum(count, seats);
        bytes32 digest = _hashTypedDataV4(Hashes.bodyHash(body));
        address last;
        for (uint256 i = 0; i < count; i++) {
            address signer = ECDSA.recover(digest, signatures[i * 65:(i + 1) * 65]);
            if (signer <= last) revert SignersNotSorted(signer);
            if (seatOfKey[body.run][signer] == 0) revert SignerNotASeat(signer);
            last = signer;
        }
    }

    function _changeSeats(Body calldata body, Run storage state) private {
        if (body.drops.length > CHANGES_MAX) revert TooManyChanges(body.drops.length);
        if (body.drops.length != 0) {
            _drop(body.run, body.drops);
            if (state.seats < _limits[body.run].minSeats) {
                revert TooFewSeats(state.seats, _limits[body.run].minSeats);
            }
        }
        _promote(body.run, body.promotions);
    }

    /// @dev Epochs count non-empty rounds: roll calls cannot hurry one along.
    function _countEpoch(uint64 run, Run storage state) private {
        if (state.epochCount + 1 >= _limits[run].epochRounds) {
            state.epochCount = 0;
            state.epochSeats = state.seats;
        } else {
            state.epochCount++;
        }
    }
}
