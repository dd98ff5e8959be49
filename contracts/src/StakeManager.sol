// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Guarded} from "./Guarded.sol";
import {Intake} from "./libraries/Intake.sol";
import {Updates} from "./libraries/Updates.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {IRunRegistry} from "./interfaces/IRunRegistry.sol";
import {IRuns} from "./interfaces/IRuns.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";

/// @title Stakes of members in runs.
/// @notice Immutable. It owes what is staked, unbonding, promised to challengers and seized, and holds no less; the
/// guardian can stop new stakes and nothing else.
contract StakeManager is IStakeManager, Guarded {
    using SafeERC20 for IERC20;
    using Intake for IERC20;

    /// @dev The challenger's part is small: two that know each other must not gain by slashing one another.
    uint96 private constant _REWARD_DIVISOR = 10;

    IRunRegistry public immutable registry;
    IERC20 public immutable token;
    address public immutable treasury;
    uint64 public immutable unbondSeconds;
    uint64 public immutable slashSeconds;
    uint64 public immutable deadSeconds;

    /// @inheritdoc IStakeManager
    uint256 public seized;

    /// @dev `Stake` as it is stored: one slot tells whether a member is active.
    struct StoredStake {
        uint96 staked;
        uint96 unbonding;
        uint56 releaseAt;
        bool hasAsked;
        uint64 askedAt;
    }

    mapping(uint64 run => Terms) private _terms;
    mapping(uint64 run => mapping(bytes32 member => StoredStake)) private _stakes;
    mapping(bytes32 place => Case) private _cases;
    /// @dev Two looks at each run's clock, of which the older is at least `slashSeconds` old.
    mapping(uint64 run => Clock) private _older;
    mapping(uint64 run => Clock) private _newer;

    constructor(Setup memory setup) Guarded(setup.guardian) {
        registry = IRunRegistry(_contractAt(setup.registry));
        token = IERC20(_contractAt(setup.token));
        if (setup.treasury == address(0) || setup.treasury == address(this)) revert BadTreasury(setup.treasury);
        treasury = setup.treasury;
        uint256 needed = IRewardsDistributor(_contractAt(setup.rewards)).rewardSeconds() + setup.slashSeconds;
        if (setup.unbondSeconds <= needed) revert UnbondingTooShort(setup.unbondSeconds, needed);
        if (setup.slashSeconds == 0 || setup.deadSeconds == 0) revert EmptyWindow();
        (unbondSeconds, slashSeconds, deadSeconds) = (setup.unbondSeconds, setup.slashSeconds, setup.deadSeconds);
    }

    /// @inheritdoc IStakeManager
    function setTerms(uint64 run, Terms calldata terms) external whenOpen {
        if (registry.ownerOf(run) != msg.sender) revert NotRunOwner(run, msg.sender);
        bool isOpen = registry.course(run).state == IRuns.RunState.Open;
        if (!isOpen || _terms[run].minimum != 0) revert TermsFixed(run);
        if (terms.faultMax == 0 || terms.faultMax > terms.minimum) revert BadTerms(terms.minimum, terms.faultMax);
        _terms[run] = terms;
        emit TermsSet(run, terms.minimum, terms.faultMax);
    }

    /// @inheritdoc IStakeManager
    function stake(uint64 run, bytes32 member, uint96 amount) external whenOpen {
        uint96 minimum = _terms[run].minimum;
        if (minimum == 0) revert NoTerms(run);
        _checkController(member);
        StoredStake storage held = _stakes[run][member];
        uint96 staked = held.staked + amount;
        if (staked < minimum) revert BelowMinimum(staked, minimum);
        (held.staked, held.hasAsked) = (staked, false);
        emit Staked(run, member, amount, staked);
        token.take(amount);
    }

    /// @inheritdoc IStakeManager
    function unbond(uint64 run, bytes32 member) external {
        _checkController(member);
        StoredStake storage held = _stakes[run][member];
        if (held.staked == 0) revert NothingStaked(run, member);
        if (!_mayUnbond(run, member, held)) return;
        _mark(run);
        uint64 releaseAt = uint64(block.timestamp) + unbondSeconds;
        uint96 unbonding = held.unbonding + held.staked;
        (held.staked, held.unbonding) = (0, unbonding);
        (held.releaseAt, held.hasAsked) = (uint56(releaseAt), false);
        emit Unbonding(run, member, unbonding, releaseAt);
    }

    /// @inheritdoc IStakeManager
    function withdraw(uint64 run, bytes32 member) external {
        StoredStake storage held = _stakes[run][member];
        uint96 amount = held.unbonding;
        if (amount == 0) revert NothingUnbonding(run, member);
        if (block.timestamp < held.releaseAt) revert NotReleased(held.releaseAt);
        (held.unbonding, held.releaseAt) = (0, 0);
        address to = registry.payee(member);
        emit Withdrawn(run, member, to, amount);
        token.safeTransfer(to, amount);
    }

    /// @inheritdoc IStakeManager
    function slash(
        Place calldata place,
        Work calldata first,
        Work calldata second,
        bytes calldata firstSignature,
        bytes calldata secondSignature
    ) external {
        bytes32 id = keccak256(abi.encode(place));
        if (_cases[id].challenger != address(0)) revert AlreadyPunished(id);
        Clock memory older = _older[place.run];
        if (place.round <= older.round) revert RoundTooOld(place.round, older.round);
        _checkEvidence(place, first, second, firstSignature, secondSignature, older.blockNumber);
        _punish(place, id);
    }

    /// @inheritdoc IStakeManager
    function collectReward(bytes32 place) external {
        Case storage found = _cases[place];
        uint96 amount = found.reward;
        if (amount == 0) revert NothingToCollect();
        found.reward = 0;
        emit RewardCollected(place, found.challenger, amount);
        token.safeTransfer(found.challenger, amount);
    }

    /// @inheritdoc IStakeManager
    function collectSeized() external {
        uint256 amount = seized;
        if (amount == 0) revert NothingToCollect();
        seized = 0;
        emit SeizedCollected(amount);
        token.safeTransfer(treasury, amount);
    }

    /// @inheritdoc IStakeManager
    function mark(uint64 run) external {
        _mark(run);
    }

    /// @inheritdoc IStakeManager
    function termsOf(uint64 run) external view returns (Terms memory) {
        return _terms[run];
    }

    /// @inheritdoc IStakeManager
    function stakeOf(uint64 run, bytes32 member) external view returns (Stake memory) {
        StoredStake storage held = _stakes[run][member];
        return Stake(held.staked, held.unbonding, held.releaseAt, held.hasAsked ? held.askedAt : 0);
    }

    /// @inheritdoc IStakeManager
    function isActive(uint64 run, bytes32 member) external view returns (bool) {
        StoredStake storage held = _stakes[run][member];
        return _isActive(_terms[run].minimum, held.staked, held.hasAsked);
    }

    /// @inheritdoc IStakeManager
    function caseOf(bytes32 place) external view returns (Case memory) {
        return _cases[place];
    }

    /// @inheritdoc IStakeManager
    function clockOf(uint64 run) external view returns (Clock memory older, Clock memory newer) {
        return (_older[run], _newer[run]);
    }

    function _isActive(uint96 minimum, uint96 staked, bool hasAsked) private pure returns (bool) {
        return minimum != 0 && staked >= minimum && !hasAsked;
    }

    function _checkController(bytes32 member) private view {
        if (registry.controllerOf(member) != msg.sender) revert NotMemberController(member, msg.sender);
    }

    /// @dev Whether unbonding begins now; if not, the member has asked for it by this. A seat that certificates never
    /// drop must not hold a stake for ever: whoever captured the seats would have it as a hostage.
    function _mayUnbond(uint64 run, bytes32 member, StoredStake storage held) private returns (bool) {
        IRuns.Course memory course = registry.course(run);
        bool isStarted = course.state == IRuns.RunState.Started;
        if (isStarted && block.timestamp >= uint256(course.headAt) + deadSeconds) return true;
        IRuns.Membership memory part = registry.membership(run, member);
        if (part.part == IRuns.Part.Joined) revert StillJoined(run, member);
        if (part.seatKey == address(0)) return true;
        if (!held.hasAsked) {
            (held.hasAsked, held.askedAt) = (true, uint64(block.timestamp));
            emit ExitAsked(run, member, held.askedAt + deadSeconds);
            return false;
        }
        if (block.timestamp < held.askedAt + deadSeconds) revert SeatNotGivenUp(held.askedAt + deadSeconds);
        return true;
    }

    function _checkEvidence(
        Place calldata place,
        Work calldata first,
        Work calldata second,
        bytes calldata firstSignature,
        bytes calldata secondSignature,
        uint64 oldestBlock
    ) private view {
        bytes32 firstHash = Updates.hash(place, first);
        bytes32 secondHash = Updates.hash(place, second);
        if (firstHash == secondHash) revert SameUpdate(firstHash);
        bytes32 separator = Updates.separator(address(registry));
        address key = _signer(separator, firstHash, firstSignature);
        _checkKey(place.member, key, oldestBlock);
        address otherKey = _signer(separator, secondHash, secondSignature);
        if (otherKey != key) _checkKey(place.member, otherKey, oldestBlock);
    }

    function _signer(bytes32 separator, bytes32 structHash, bytes calldata signature) private pure returns (address) {
        return ECDSA.recoverCalldata(MessageHashUtils.toTypedDataHash(separator, structHash), signature);
    }

    /// @dev Any key that is the member's will do, or was until less than a window ago: which one it had to sign with in a
    /// round is known to the trainers root only, and an honest member signs one Update for a place with whatever key.
    function _checkKey(bytes32 member, address key, uint64 oldestBlock) private view {
        (bytes32 holder,, uint64 untilBlock) = registry.keyRecord(key);
        if (holder != member || member == 0) revert NotMembersKey(member, key);
        if (untilBlock != 0 && untilBlock <= oldestBlock) revert KeyTooOld(key, untilBlock);
    }

    /// @dev What is on its way out is taken last: it belongs to what was honest work for longer.
    function _punish(Place calldata place, bytes32 id) private {
        (uint96 minimum, uint96 most) = (_terms[place.run].minimum, _terms[place.run].faultMax);
        StoredStake storage held = _stakes[place.run][place.member];
        (uint96 staked, uint96 unbonding) = (held.staked, held.unbonding);
        uint96 fromStaked = most < staked ? most : staked;
        uint96 fromUnbonding;
        uint96 reward;
        unchecked {
            // Each part is at most what it is taken from, and what all have staked fits into the token's supply.
            fromUnbonding = most - fromStaked < unbonding ? most - fromStaked : unbonding;
            (staked, unbonding) = (staked - fromStaked, unbonding - fromUnbonding);
            uint96 amount = fromStaked + fromUnbonding;
            if (amount == 0) revert NothingToSlash(place.run, place.member);
            reward = amount / _REWARD_DIVISOR;
            seized += amount - reward;
        }
        (held.staked, held.unbonding) = (staked, unbonding);
        _cases[id] = Case(msg.sender, reward);
        bool active = _isActive(minimum, staked, held.hasAsked);
        emit Slashed(place.run, place.member, id, msg.sender, fromStaked, fromUnbonding, reward, active);
    }

    function _mark(uint64 run) private {
        Clock memory newer = _newer[run];
        if (newer.time != 0) {
            if (block.timestamp < newer.time + slashSeconds) return;
            _older[run] = newer;
        }
        newer = Clock(registry.course(run).round, uint64(block.number), uint64(block.timestamp));
        _newer[run] = newer;
        emit Marked(run, newer.round, newer.blockNumber, newer.time);
    }
}
