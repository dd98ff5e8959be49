// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStakeManager} from "../src/interfaces/IStakeManager.sol";
import {Scene, Targets} from "./Scene.sol";

/// @title Members that stake, leave, lie and get out, in any order.
contract Stakers is Scene {
    bool public isWrong;
    uint256 public sent;
    uint256 public left;
    bytes32[] private _places;
    mapping(bytes32 member => bool) private _isSlashed;
    mapping(bytes32 member => uint256) private _unbondedAt;
    mapping(bytes32 place => bool) private _isPunished;

    constructor() {
        _deploy();
        _openRun();
        registry.start(run, members);
    }

    function stake(uint256 i, uint96 amount) external inTime {
        amount = amount % (3 * MINIMUM);
        bytes32 member = _member(i);
        stakes.stake(run, member, amount);
        sent += amount;
        _isSlashed[member] = false;
    }

    function quit(uint256 i) external inTime {
        registry.leaveRun(run, _member(i));
    }

    function rejoin(uint256 i) external inTime {
        vm.prank(vm.addr(keyOf[_member(i)]));
        registry.join(run, _member(i), "", "");
    }

    function certify(uint256 i, bool isDropping) external inTime {
        bytes32[] memory drops = new bytes32[](isDropping ? 1 : 0);
        if (isDropping) drops[0] = _member(i);
        _certify(false, drops, SEATS);
    }

    function unbond(uint256 i) external inTime {
        bytes32 member = _member(i);
        uint96 before = stakes.stakeOf(run, member).unbonding;
        stakes.unbond(run, member);
        if (stakes.stakeOf(run, member).unbonding != before) _unbondedAt[member] = clock;
    }

    function withdraw(uint256 i) external inTime {
        bytes32 member = _member(i);
        uint256 held = token.balanceOf(address(this));
        stakes.withdraw(run, member);
        left += token.balanceOf(address(this)) - held;
        if (clock < _unbondedAt[member] + UNBOND) isWrong = true;
    }

    function slash(uint256 i, uint8 age, uint64 tokens, uint64 otherTokens, uint32 fragment) external inTime {
        uint64 round = registry.course(run).round + 1;
        round = age % 4 < round ? round - age % 4 : 1;
        IStakeManager.Place memory place =
            IStakeManager.Place(run, round, bytes32(uint256(4)), _member(i), round - 1, fragment % 3);
        IStakeManager.Work memory first = _work(tokens % 4);
        IStakeManager.Work memory second = _work(otherTokens % 4);
        bytes memory one = _signed(keyOf[place.member], _digest(place, first));
        bytes memory other = _signed(keyOf[place.member], _digest(place, second));
        uint256 before = _owedOf(place.member);
        stakes.slash(place, first, second, one, other);
        bytes32 id = keccak256(abi.encode(place));
        if (tokens % 4 == otherTokens % 4 || _isPunished[id]) isWrong = true;
        if (before - _owedOf(place.member) > FAULT) isWrong = true;
        _isPunished[id] = true;
        _isSlashed[place.member] = true;
        _places.push(id);
        try stakes.slash(place, first, second, one, other) {
            isWrong = true;
        } catch {}
    }

    function collect(uint256 i) external inTime {
        uint256 held = token.balanceOf(address(this));
        if (_places.length > 0) stakes.collectReward(_places[i % _places.length]);
        left += token.balanceOf(address(this)) - held;
    }

    function collectSeized() external inTime {
        uint256 held = token.balanceOf(TREASURY);
        stakes.collectSeized();
        left += token.balanceOf(TREASURY) - held;
    }

    function mark() external inTime {
        stakes.mark(run);
    }

    function wait(uint256 time) external inTime {
        _pass(time % 1_000);
    }

    function owed() external view returns (uint256 sum) {
        for (uint256 i = 0; i < SEATS; ++i) sum += _owedOf(members[i]);
        for (uint256 i = 0; i < _places.length; ++i) sum += stakes.caseOf(_places[i]).reward;
        sum += stakes.seized();
    }

    function balance() external view returns (uint256) {
        return token.balanceOf(address(stakes));
    }

    function isOneBelow() external view returns (bool) {
        for (uint256 i = 0; i < SEATS; ++i) {
            uint96 staked = stakes.stakeOf(run, members[i]).staked;
            if (staked != 0 && staked < MINIMUM && !_isSlashed[members[i]]) return true;
        }
        return false;
    }

    function _member(uint256 i) private view returns (bytes32) {
        return members[i % SEATS];
    }

    function _owedOf(bytes32 member) private view returns (uint256) {
        IStakeManager.Stake memory held = stakes.stakeOf(run, member);
        return uint256(held.staked) + held.unbonding;
    }

    function _work(uint64 tokens) private pure returns (IStakeManager.Work memory) {
        return IStakeManager.Work(1, 0, 0, 10, tokens, "int8", 0, 9, 0, 0);
    }

    function _digest(IStakeManager.Place memory place, IStakeManager.Work memory work) private view returns (bytes32) {
        bytes32 kind = keccak256(
            "Update(uint16 version,uint64 run,uint64 round,bytes32 previousHead,bytes32 member,uint64 baseRound,"
            "bytes32 baseStateRoot,uint32 fragment,uint32 tau,uint32 innerSteps,uint64 tokens,string codec,"
            "bytes32 blobHash,uint64 blobSize,bytes32 keyHash,bytes32 traceRoot)"
        );
        bytes memory encoded = bytes.concat(
            abi.encode(kind, work.version, place.run, place.round, place.previousHead, place.member),
            abi.encode(place.baseRound, work.baseStateRoot, place.fragment, work.tau, work.innerSteps),
            abi.encode(work.tokens, keccak256(bytes(work.codec)), work.blobHash, work.blobSize),
            abi.encode(work.keyHash, work.traceRoot)
        );
        return _typed(address(registry), keccak256(encoded));
    }
}

contract StakeManagerInvariants is Targets {
    Stakers private _stakers;

    function setUp() external {
        _stakers = new Stakers();
        _target(address(_stakers));
    }

    function invariant_what_is_owed_is_there() external view {
        assert(_stakers.balance() == _stakers.owed() && _stakers.sent() - _stakers.left() == _stakers.owed());
    }

    function invariant_a_stake_is_nothing_or_enough() external view {
        assert(!_stakers.isOneBelow());
    }

    function invariant_faults_are_real_and_punished_once_and_waits_are_kept() external view {
        assert(!_stakers.isWrong());
    }
}
