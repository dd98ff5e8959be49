// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Leaves} from "./libraries/Leaves.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {Pots} from "./Pots.sol";

/// @title Epochs and claims.
/// @notice Immutable. The guardian can kill an epoch before anybody was paid by it; nobody can move a pot but by an epoch
/// of the seats, or back to who filled it.
contract RewardsDistributor is Pots, EIP712 {
    using SafeERC20 for IERC20;

    constructor(Setup memory setup) Pots(setup) EIP712("DisTrAI", "1") {}

    /// @inheritdoc IRewardsDistributor
    function settle(Epoch calldata epoch, bytes calldata signatures) external {
        StoredPot storage pot = _pots[epoch.run];
        if (pot.owner == address(0)) revert NoPot(epoch.run);
        uint32 live = pot.live;
        Settled memory previous = pot.epochs[live];
        if (epoch.epoch != live + 1) revert WrongEpoch(epoch.epoch, live + 1);
        if (epoch.kills != pot.kills) revert WrongKills(epoch.kills, pot.kills);
        if (epoch.previousRoot != previous.root) revert WrongPreviousRoot(epoch.previousRoot, previous.root);
        if (epoch.root == 0) revert MissingRoot();
        _checkRounds(pot, epoch, previous);
        _checkTotal(pot, epoch, previous);
        registry.checkQuorum(epoch.run, epochDigest(epoch), signatures);
        uint64 activeFrom = uint64(block.timestamp) + activationSeconds;
        pot.live = epoch.epoch;
        pot.epochs[epoch.epoch] = Settled(epoch.root, epoch.total, activeFrom, epoch.lastRound);
        emit EpochSettled(
            epoch.run,
            epoch.epoch,
            epoch.root,
            epoch.total,
            epoch.lastRound,
            epoch.head,
            epoch.dataHash,
            activeFrom
        );
    }

    /// @inheritdoc IRewardsDistributor
    function kill(uint64 run, uint32 epoch) external onlyGuardian {
        StoredPot storage pot = _pots[run];
        if (epoch == 0 || epoch > pot.live) revert NotLive(run, epoch);
        uint64 activeFrom = pot.epochs[epoch].activeFrom;
        if (block.timestamp >= activeFrom) revert AlreadyActive(activeFrom);
        pot.live = epoch - 1;
        ++pot.kills;
        pot.killedAt = uint64(block.timestamp);
        emit EpochKilled(run, epoch, epoch - 1, pot.kills);
    }

    /// @inheritdoc IRewardsDistributor
    function claim(uint64 run, uint32 epoch, bytes32 member, uint128 amount, bytes32[] calldata proof) external {
        StoredPot storage pot = _pots[run];
        (uint256 left, uint256 reserved) = (pot.left, 0);
        if (epoch != pot.opened || epoch == 0) (left, reserved) = _turnTo(pot, run, epoch);
        bytes32 root = pot.epochs[epoch].root;
        if (Leaves.rootOf(proof, Leaves.hash(run, member, amount)) != root) revert NotInRoot(root);
        uint256 due = _book(pot, run, member, amount);
        // All claims together stay below the epoch's total, whatever its leaves add up to: captured seats could sign any.
        if (due + reserved > left) _refuse(pot, epoch, left, due);
        unchecked {
            pot.left = uint128(left - due);
        }
        address to = registry.payee(member);
        emit RewardClaimed(run, member, epoch, to, uint128(due), amount);
        token.safeTransfer(to, due);
    }

    /// @inheritdoc IRewardsDistributor
    function epochOf(uint64 run, uint32 epoch) external view returns (Settled memory) {
        return _pots[run].epochs[epoch];
    }

    /// @inheritdoc IRewardsDistributor
    function epochDigest(Epoch calldata epoch) public view returns (bytes32) {
        return _hashTypedDataV4(Leaves.epochHash(epoch));
    }

    /// @dev Another epoch than the last by which anybody was paid: a newer one, which is opened by this, or an older one, of
    /// which what the newer one added is not paid out.
    /// @return what may still be paid by the newest epoch that is opened
    /// @return and what of it may not be paid by `epoch`
    function _turnTo(StoredPot storage pot, uint64 run, uint32 epoch) private returns (uint256, uint256) {
        if (epoch == 0 || epoch > pot.live) revert NotLive(run, epoch);
        (uint256 left, uint32 opened) = (pot.left, pot.opened);
        Settled storage settled = pot.epochs[epoch];
        (uint256 total, uint256 openedTotal) = (settled.total, pot.epochs[opened].total);
        if (epoch < opened) return (left, openedTotal - total);
        if (block.timestamp < settled.activeFrom) revert NotActive(settled.activeFrom);
        pot.opened = epoch;
        return (left + total - openedTotal, 0);
    }

    /// @dev Writes down what a member is paid in all. Gives what is new of it.
    function _book(StoredPot storage pot, uint64 run, bytes32 member, uint128 amount) private returns (uint256) {
        Account storage account = pot.accounts[member];
        (Standing standing, uint256 claimed) = (account.standing, account.claimed);
        if (standing == Standing.Never) revert NotAllowed(run, member);
        if (amount <= claimed) revert NothingToClaim(uint128(claimed));
        account.claimed = amount;
        unchecked {
            return amount - claimed;
        }
    }

    function _refuse(StoredPot storage pot, uint32 epoch, uint256 left, uint256 due) private view {
        uint256 paid = pot.epochs[pot.opened].total - left;
        revert AboveTotal(paid + due, pot.epochs[epoch].total);
    }

    function _checkRounds(StoredPot storage pot, Epoch calldata epoch, Settled memory previous) private view {
        bytes32 marked = pot.marks[epoch.lastRound].head;
        if (marked == 0 || marked != epoch.head) revert NotMarked(epoch.lastRound, epoch.head);
        if (epoch.lastRound <= previous.lastRound) revert NoNewRounds(epoch.lastRound, previous.lastRound);
    }

    /// @dev What is new is measured against the new rounds, not all against all: captured seats must not find, saved up,
    /// what honest epochs left below the rate.
    function _checkTotal(StoredPot storage pot, Epoch calldata epoch, Settled memory previous) private view {
        if (epoch.total < previous.total) revert TotalFalls(epoch.total, previous.total);
        uint256 rounds = _paidRounds(pot, pot.marks[previous.lastRound], pot.marks[epoch.lastRound]);
        uint256 most = previous.total + rounds * rateOf(epoch.run);
        if (epoch.total > most) revert AboveRate(epoch.total, most);
        uint256 escrow = uint256(pot.funded) - pot.refunded;
        if (epoch.total > escrow) revert AboveEscrow(epoch.total, escrow);
    }

    /// @dev Non-empty rounds between two marks, at most one for each `minRoundSeconds`, none after the pot's last.
    /// `protocol/rewards.py` counts the same.
    function _paidRounds(StoredPot storage pot, Mark memory from, Mark memory to) private view returns (uint256) {
        uint256 minimum = pot.terms.minRoundSeconds;
        (uint256 worked, uint256 time) = (to.worked, to.time);
        uint256 closedAt = pot.closedAt;
        if (closedAt != 0) {
            if (worked > pot.workedMax) worked = pot.workedMax;
            if (time > closedAt + minimum) time = closedAt + minimum;
        }
        if (worked <= from.worked || time <= from.time) return 0;
        uint256 inTime = (time - from.time) / minimum;
        return worked - from.worked < inTime ? worked - from.worked : inTime;
    }
}
