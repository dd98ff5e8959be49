// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRewardsDistributor} from "../src/interfaces/IRewardsDistributor.sol";
import {Scene, Targets} from "./Scene.sol";

/// @title Captured seats: they settle whatever the contract lets them, as fast as they can.
contract Captured is Scene {
    struct Root {
        uint128 first;
        uint128 second;
    }

    bytes32 private constant _EPOCH = keccak256(
        "Epoch(uint64 run,uint32 epoch,uint64 lastRound,bytes32 head,bytes32 root,uint128 total,bytes32 dataHash,"
        "bytes32 previousRoot,uint32 kills)"
    );

    bool public isWrong;
    uint256 public openedAt;
    uint256 public closedAt;
    mapping(uint32 epoch => Root) private _roots;
    mapping(bytes32 member => uint128) private _claimed;

    constructor() {
        _deploy();
        _openRun();
        registry.start(run, members);
        rewards.openPot(run, IRewardsDistributor.Terms(1, CAP, MAX_MEMBERS, MIN_ROUND_SECONDS));
        openedAt = clock;
        for (uint256 i = 0; i < 2; ++i) rewards.allow(run, members[i]);
        rewards.fund(run, uint128(40 * RATE));
    }

    function fund(uint128 amount) external inTime {
        rewards.fund(run, amount % uint128(4 * RATE));
    }

    function certify(bool isEmpty, uint256 time) external inTime {
        _pass(time % 40);
        _certify(isEmpty, new bytes32[](0), SEATS);
    }

    /// @dev One round per block, all in one second.
    function rush() external inTime {
        for (uint256 i = 0; i < 5; ++i) _certify(false, new bytes32[](0), SEATS);
    }

    function settle(uint128 first, uint128 second, uint8 work, bool isHonest, bool isLying) external inTime {
        _settle(first, second, work, isHonest, isLying);
    }

    function claim(uint32 epoch, bool isSecond, bool isPatient, bool isAny) external inTime {
        if (isPatient) _pass(ACTIVATION);
        uint32 live = rewards.potOf(run).live;
        _claim(isAny ? epoch % (live + 2) : live, isSecond);
    }

    /// @dev As it should be: some work, an honest epoch, and both are paid once it is active.
    function payday(uint128 first, uint128 second) external inTime {
        _settle(first, second, 1, true, false);
        _pass(ACTIVATION);
        uint32 live = rewards.potOf(run).live;
        _claim(live, false);
        _claim(live, true);
    }

    function kill(uint32 epoch, uint8 seldom) external inTime {
        if (seldom > 40) return;
        uint32 live = rewards.potOf(run).live;
        epoch = live == 0 ? 0 : 1 + epoch % live;
        uint64 activeFrom = rewards.epochOf(run, epoch).activeFrom;
        vm.prank(GUARDIAN);
        rewards.kill(run, epoch);
        if (clock >= activeFrom) isWrong = true;
    }

    function wait(uint256 time) external inTime {
        _pass(time % 400);
    }

    function close(uint8 seldom) external inTime {
        if (seldom > 8) return;
        rewards.close(run);
        closedAt = clock;
    }

    function refund() external inTime {
        rewards.refund(run);
        if (closedAt == 0 || clock < closedAt + SETTLE + ACTIVATION) isWrong = true;
    }

    function disallow(uint256 i, bool isBack) external inTime {
        if (isBack) rewards.allow(run, members[i % 2]);
        else rewards.disallow(run, members[i % 2]);
    }

    function pot() external view returns (IRewardsDistributor.Pot memory) {
        return rewards.potOf(run);
    }

    function balance() external view returns (uint256) {
        return token.balanceOf(address(rewards));
    }

    function claimed() external view returns (uint256) {
        return uint256(_claimed[members[0]]) + _claimed[members[1]];
    }

    function isKept() external view returns (bool) {
        return rewards.accountOf(run, members[0]).claimed == _claimed[members[0]]
            && rewards.accountOf(run, members[1]).claimed == _claimed[members[1]];
    }

    function liveTotal() external view returns (uint256) {
        return rewards.epochOf(run, rewards.potOf(run).live).total;
    }

    function activeTotal() external view returns (uint256) {
        for (uint32 epoch = rewards.potOf(run).live; epoch > 0; --epoch) {
            if (rewards.epochOf(run, epoch).activeFrom <= clock) return rewards.epochOf(run, epoch).total;
        }
        return 0;
    }

    /// @dev All that the rate allows since the pot was opened.
    function most() external view returns (uint256) {
        uint256 end = closedAt == 0 ? clock : closedAt + MIN_ROUND_SECONDS;
        uint256 inTime = (end - openedAt) / MIN_ROUND_SECONDS;
        uint256 worked = registry.course(run).worked;
        return (worked < inTime ? worked : inTime) * RATE;
    }

    function _settle(uint128 first, uint128 second, uint8 work, bool isHonest, bool isLying) private {
        for (uint256 i = 0; i < work % 4; ++i) {
            _pass(MIN_ROUND_SECONDS);
            _certify(false, new bytes32[](0), SEATS);
        }
        IRewardsDistributor.Pot memory open = rewards.potOf(run);
        IRewardsDistributor.Epoch memory epoch = _next(open);
        Root memory made = _roots[open.live];
        made = isHonest
            ? Root(made.first + first % CAP, made.second + second % CAP)
            : Root(made.first / 2 + first % uint128(3 * RATE), made.second + second % uint128(RATE));
        _roots[epoch.epoch] = made;
        epoch.root = _rootOf(made);
        epoch.total = isLying ? made.first : made.first + made.second;
        bytes memory signatures = _signatures(_digest(epoch), SEATS);
        uint256 before = rewards.epochOf(run, open.live).total;
        uint64 from = rewards.epochOf(run, open.live).lastRound;
        rewards.settle(epoch, signatures);
        uint256 rounds = rewards.markOf(run, epoch.lastRound).worked - rewards.markOf(run, from).worked;
        if (epoch.total < before || epoch.total - before > rounds * RATE) isWrong = true;
    }

    function _claim(uint32 epoch, bool isSecond) private {
        uint32 live = rewards.potOf(run).live;
        bytes32 member = members[isSecond ? 1 : 0];
        uint128 amount = isSecond ? _roots[epoch].second : _roots[epoch].first;
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leaf(members[isSecond ? 0 : 1], isSecond ? _roots[epoch].first : _roots[epoch].second);
        uint256 held = token.balanceOf(address(this));
        bool isDue = epoch != 0 && epoch <= live && rewards.epochOf(run, epoch).activeFrom <= clock;
        rewards.claim(run, epoch, member, amount, proof);
        uint256 got = token.balanceOf(address(this)) - held;
        if (!isDue || got == 0 || _claimed[member] + got != amount) isWrong = true;
        _claimed[member] = amount;
    }

    function _next(IRewardsDistributor.Pot memory open) private returns (IRewardsDistributor.Epoch memory epoch) {
        try rewards.markHead(run) {} catch {}
        (epoch.run, epoch.epoch, epoch.kills) = (run, open.live + 1, open.kills);
        epoch.lastRound = registry.course(run).round;
        (epoch.head,) = registry.headOf(run);
        epoch.previousRoot = rewards.epochOf(run, open.live).root;
    }

    function _digest(IRewardsDistributor.Epoch memory epoch) private view returns (bytes32) {
        return _typed(address(rewards), keccak256(abi.encode(_EPOCH, epoch)));
    }

    function _leaf(bytes32 member, uint128 amount) private view returns (bytes32) {
        return keccak256(
            bytes.concat(keccak256(abi.encode(block.chainid, address(rewards), run, member, amount)))
        );
    }

    function _rootOf(Root memory made) private view returns (bytes32) {
        (bytes32 a, bytes32 b) = (_leaf(members[0], made.first), _leaf(members[1], made.second));
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }
}

contract RewardsDistributorInvariants is Targets {
    Captured private _captured;

    function setUp() external {
        _captured = new Captured();
        _target(address(_captured));
    }

    function invariant_claimed_is_active_is_live_is_funded() external view {
        IRewardsDistributor.Pot memory pot = _captured.pot();
        assert(pot.paid == _captured.claimed());
        assert(pot.paid <= _captured.activeTotal() && _captured.activeTotal() <= _captured.liveTotal());
        assert(_captured.liveTotal() + pot.refunded <= pot.funded);
    }

    function invariant_what_is_owed_is_there() external view {
        IRewardsDistributor.Pot memory pot = _captured.pot();
        assert(_captured.balance() == pot.funded - pot.refunded - pot.paid);
    }

    function invariant_captured_seats_take_no_more_than_the_rate() external view {
        assert(_captured.liveTotal() <= _captured.most());
    }

    function invariant_nothing_is_claimed_twice_or_from_what_is_not_active() external view {
        assert(!_captured.isWrong() && _captured.isKept());
    }
}
