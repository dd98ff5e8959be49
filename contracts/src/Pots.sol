// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Guarded} from "./Guarded.sol";
import {Intake} from "./libraries/Intake.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {IRunRegistry} from "./interfaces/IRunRegistry.sol";
import {IRuns} from "./interfaces/IRuns.sol";

/// @title Pots: what comes in for a run, who may earn it, and what goes back.
abstract contract Pots is IRewardsDistributor, Guarded {
    using SafeERC20 for IERC20;
    using Intake for IERC20;

    IRunRegistry public immutable registry;
    IERC20 public immutable token;
    uint64 public immutable activationSeconds;
    uint64 public immutable settleSeconds;
    uint64 public immutable deadSeconds;

    /// @dev `Pot` as it is stored: one slot tells a claim all that it needs of the run.
    /// @param opened the last epoch by which anybody was paid; all before it are active, too
    /// @param left what may still be paid by it: its total, less what members claimed
    struct StoredPot {
        address owner;
        uint64 openedAt;
        uint128 funded;
        uint128 refunded;
        uint128 left;
        uint32 opened;
        uint32 live;
        uint32 kills;
        uint64 closedAt;
        uint64 killedAt;
        uint32 workedMax;
        uint32 members;
        Terms terms;
        mapping(uint32 epoch => Settled) epochs;
        mapping(uint64 round => Mark) marks;
        mapping(bytes32 member => Account) accounts;
    }

    mapping(uint64 run => StoredPot) internal _pots;

    constructor(Setup memory setup) Guarded(setup.guardian) {
        registry = IRunRegistry(_contractAt(setup.registry));
        token = IERC20(_contractAt(setup.token));
        uint256 needed = uint256(setup.auditSeconds) + setup.disputeSeconds;
        if (setup.activationSeconds <= needed) revert ActivationTooShort(setup.activationSeconds, needed);
        if (setup.settleSeconds == 0 || setup.deadSeconds == 0) revert EmptyWindow();
        activationSeconds = setup.activationSeconds;
        (settleSeconds, deadSeconds) = (setup.settleSeconds, setup.deadSeconds);
    }

    /// @inheritdoc IRewardsDistributor
    function openPot(uint64 run, Terms calldata terms) external whenOpen {
        if (registry.ownerOf(run) != msg.sender) revert NotRunOwner(run, msg.sender);
        StoredPot storage pot = _pots[run];
        if (pot.owner != address(0)) revert PotExists(run);
        bool isComplete = terms.price != 0 && terms.cap != 0 && terms.maxMembers != 0 && terms.minRoundSeconds != 0;
        if (!isComplete) revert BadTerms();
        (pot.owner, pot.openedAt, pot.terms) = (msg.sender, uint64(block.timestamp), terms);
        uint64 round = _markNow(run, uint64(block.timestamp));
        pot.epochs[0].lastRound = round;
        emit PotOpened(run, msg.sender, round, terms);
    }

    /// @inheritdoc IRewardsDistributor
    function fund(uint64 run, uint128 amount) external whenOpen {
        StoredPot storage pot = _openPot(run);
        if (amount == 0) revert NothingSent();
        pot.funded += amount;
        emit Funded(run, msg.sender, amount, pot.funded);
        token.take(amount);
    }

    /// @inheritdoc IRewardsDistributor
    function allow(uint64 run, bytes32 member) external {
        StoredPot storage pot = _ownPot(run);
        if (pot.closedAt != 0) revert PotIsClosed(run);
        if (registry.controllerOf(member) == address(0)) revert NoSuchMember(member);
        Account storage account = pot.accounts[member];
        if (account.standing == Standing.Allowed) revert AlreadyAllowed(run, member);
        uint32 most = pot.terms.maxMembers;
        if (pot.members == most) revert TooManyMembers(most);
        ++pot.members;
        account.standing = Standing.Allowed;
        // A round later than `disallow` ends: who takes another's place never earns in the same round.
        emit MemberAllowed(run, member, _roundNow(registry.course(run)) + 1);
    }

    /// @inheritdoc IRewardsDistributor
    function disallow(uint64 run, bytes32 member) external {
        StoredPot storage pot = _ownPot(run);
        Account storage account = pot.accounts[member];
        if (account.standing != Standing.Allowed) revert NotAllowed(run, member);
        --pot.members;
        account.standing = Standing.Disallowed;
        emit MemberDisallowed(run, member, _roundNow(registry.course(run)));
    }

    /// @inheritdoc IRewardsDistributor
    function markHead(uint64 run) external {
        StoredPot storage pot = _pots[run];
        if (pot.owner == address(0)) revert NoPot(run);
        IRuns.Course memory course = registry.course(run);
        if (course.state != IRuns.RunState.Started) revert NotStarted(run);
        if (pot.marks[course.round].head != 0) revert AlreadyMarked(run, course.round);
        _markNow(run, course.headAt);
    }

    /// @inheritdoc IRewardsDistributor
    function close(uint64 run) external {
        StoredPot storage pot = _openPot(run);
        IRuns.Course memory course = registry.course(run);
        if (msg.sender != pot.owner) _checkDead(course);
        uint64 last = _roundNow(course);
        // The round that is going on is paid as well: its work is done or under way.
        (pot.closedAt, pot.workedMax) = (uint64(block.timestamp), course.worked + (last == 0 ? 0 : 1));
        emit PotClosed(run, last, pot.workedMax);
    }

    /// @inheritdoc IRewardsDistributor
    function refund(uint64 run) external {
        StoredPot storage pot = _pots[run];
        if (pot.owner == address(0)) revert NoPot(run);
        uint256 from = refundableAt(run);
        if (from == 0 || block.timestamp < from) revert NotRefundable(from);
        uint128 amount = pot.funded - pot.refunded - pot.epochs[pot.live].total;
        if (amount == 0) revert NothingToRefund();
        pot.refunded += amount;
        emit Refunded(run, pot.owner, amount);
        token.safeTransfer(pot.owner, amount);
    }

    /// @inheritdoc IRewardsDistributor
    function potOf(uint64 run) external view returns (Pot memory) {
        StoredPot storage pot = _pots[run];
        return Pot(
            pot.owner,
            pot.openedAt,
            pot.funded,
            pot.refunded,
            pot.epochs[pot.opened].total - pot.left,
            pot.live,
            pot.kills,
            pot.closedAt,
            pot.killedAt,
            pot.workedMax,
            pot.members,
            pot.terms
        );
    }

    /// @inheritdoc IRewardsDistributor
    function markOf(uint64 run, uint64 round) external view returns (Mark memory) {
        return _pots[run].marks[round];
    }

    /// @inheritdoc IRewardsDistributor
    function accountOf(uint64 run, bytes32 member) external view returns (Account memory) {
        return _pots[run].accounts[member];
    }

    /// @inheritdoc IRewardsDistributor
    function fundedUntil(uint64 run) external view returns (uint256 worked) {
        StoredPot storage pot = _pots[run];
        if (pot.owner == address(0)) revert NoPot(run);
        Settled storage last = pot.epochs[pot.live];
        uint256 left = uint256(pot.funded) - pot.refunded - last.total;
        return pot.marks[last.lastRound].worked + left / rateOf(run);
    }

    /// @inheritdoc IRewardsDistributor
    function rewardSeconds() external view returns (uint256) {
        return settleSeconds + activationSeconds;
    }

    /// @inheritdoc IRewardsDistributor
    function rateOf(uint64 run) public view returns (uint256) {
        Terms storage terms = _pots[run].terms;
        return uint256(terms.cap) * terms.maxMembers;
    }

    /// @inheritdoc IRewardsDistributor
    function refundableAt(uint64 run) public view returns (uint256) {
        StoredPot storage pot = _pots[run];
        if (pot.closedAt == 0) return 0;
        // After a kill the seats get the whole time again: else a guardian could make the owner a present of earnings.
        uint256 from = pot.killedAt > pot.closedAt ? pot.killedAt : pot.closedAt;
        return from + settleSeconds + activationSeconds;
    }

    /// @dev Remembers the run's head of now, as of `time`.
    function _markNow(uint64 run, uint64 time) internal returns (uint64 round) {
        IRuns.Course memory course = registry.course(run);
        (bytes32 head,) = registry.headOf(run);
        round = course.round;
        _pots[run].marks[round] = Mark(head, course.worked, time);
        emit HeadMarked(run, round, head, course.worked, time);
    }

    function _openPot(uint64 run) private view returns (StoredPot storage pot) {
        pot = _pots[run];
        if (pot.owner == address(0)) revert NoPot(run);
        if (pot.closedAt != 0) revert PotIsClosed(run);
    }

    function _ownPot(uint64 run) private view returns (StoredPot storage pot) {
        pot = _pots[run];
        if (pot.owner == address(0)) revert NoPot(run);
        if (msg.sender != pot.owner) revert NotPotOwner(run, msg.sender);
    }

    /// @dev The round that is going on; zero before the start, when none is.
    function _roundNow(IRuns.Course memory course) private pure returns (uint64) {
        return course.state == IRuns.RunState.Started ? course.round + 1 : 0;
    }

    function _checkDead(IRuns.Course memory course) private view {
        uint256 deadAt = course.state == IRuns.RunState.Started ? uint256(course.headAt) + deadSeconds : type(uint256).max;
        if (block.timestamp < deadAt) revert StillAlive(deadAt);
    }
}
