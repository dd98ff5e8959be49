// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RewardsDistributor} from "../src/RewardsDistributor.sol";
import {RunRegistry} from "../src/RunRegistry.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Token} from "../src/Token.sol";
import {TrainingRecords} from "../src/TrainingRecords.sol";
import {IRewardsDistributor} from "../src/interfaces/IRewardsDistributor.sol";
import {IRuns} from "../src/interfaces/IRuns.sol";
import {IStakeManager} from "../src/interfaces/IStakeManager.sol";
import {Vm} from "./Vm.sol";

/// @title All contracts, and a run with three seats that belong to this contract.
abstract contract Scene {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint256 internal constant SEATS = 3;
    uint32 internal constant ACTIVATION = 300;
    uint32 internal constant SETTLE = 500;
    uint32 internal constant DEAD = 2_000;
    uint32 internal constant SLASH = 700;
    uint32 internal constant UNBOND = 1_501;
    uint96 internal constant MINIMUM = 10_000;
    uint96 internal constant FAULT = 4_000;
    uint96 internal constant CAP = 1_000;
    uint32 internal constant MAX_MEMBERS = 3;
    uint32 internal constant MIN_ROUND_SECONDS = 10;
    uint256 internal constant RATE = uint256(CAP) * MAX_MEMBERS;
    address internal constant GUARDIAN = address(0x6A);
    address internal constant TREASURY = address(0x7E);

    bytes32 private constant _REGISTRATION =
        keccak256("Registration(address creator,uint256 nonce,address controller,address payout)");

    RunRegistry internal registry;
    Token internal token;
    RewardsDistributor internal rewards;
    StakeManager internal stakes;
    TrainingRecords internal records;
    uint64 internal run;
    uint256 internal clock = 1_700_000_000;
    uint256 internal number = 100;
    bytes32[] internal members;
    mapping(bytes32 member => uint256 key) internal keyOf;

    /// @dev Every call of forge begins with this: between calls it may have turned the clock itself.
    modifier inTime() {
        vm.warp(clock);
        vm.roll(number);
        _;
    }

    function _deploy() internal {
        vm.warp(clock);
        vm.roll(number);
        registry = new RunRegistry();
        token = new Token("Play", "PLAY", address(this), 1e27);
        rewards = new RewardsDistributor(
            IRewardsDistributor.Setup(
                address(registry), address(token), GUARDIAN, 100, 150, ACTIVATION, SETTLE, DEAD
            )
        );
        stakes = new StakeManager(
            IStakeManager.Setup(
                address(registry), address(token), address(rewards), TREASURY, GUARDIAN, UNBOND, SLASH, DEAD
            )
        );
        records = new TrainingRecords(address(registry));
        token.approve(address(rewards), type(uint256).max);
        token.approve(address(stakes), type(uint256).max);
    }

    /// @dev A run with all members as its seats; with terms for stakes, and not started yet.
    function _openRun() internal {
        for (uint256 index = 0; index < SEATS; ++index) _register(index);
        _sortMembers();
        IRuns.Limits memory limits = IRuns.Limits(1, 64, 600, 1, 2, 8, true);
        run = registry.open(
            IRuns.Origin(bytes32(uint256(1)), bytes32(uint256(2)), 0, 0, IRuns.Parent(0, 0, 0)), limits
        );
        stakes.setTerms(run, IStakeManager.Terms(MINIMUM, FAULT));
        for (uint256 index = 0; index < SEATS; ++index) {
            vm.prank(vm.addr(keyOf[members[index]]));
            registry.join(run, members[index], "", "");
        }
    }

    function _register(uint256 index) private {
        uint256 key = uint256(keccak256(abi.encode("node key", index)));
        bytes32 registration = keccak256(abi.encode(_REGISTRATION, address(this), index, address(this), address(0)));
        bytes memory signature = _signed(key, _typed(address(registry), registration));
        bytes32 member = registry.register(index, address(this), vm.addr(key), address(0), signature);
        members.push(member);
        keyOf[member] = key;
    }

    function _sortMembers() private {
        for (uint256 i = 1; i < members.length; ++i) {
            for (uint256 j = i; j > 0 && members[j] < members[j - 1]; --j) {
                (members[j], members[j - 1]) = (members[j - 1], members[j]);
            }
        }
    }

    function _pass(uint256 time) internal {
        clock += time;
        vm.warp(clock);
        vm.roll(++number);
    }

    function _typed(address where, bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 separator =
            keccak256(abi.encode(domain, keccak256("DisTrAI"), keccak256("1"), block.chainid, where));
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    function _signed(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev Signatures of the first `count` seats that are left, sorted by signer.
    function _signatures(bytes32 digest, uint256 count) internal view returns (bytes memory all) {
        address previous = address(0);
        for (uint256 made = 0; made < count; ++made) {
            (uint256 key, address signer) = _nextSeat(previous);
            if (key == 0) return all;
            all = bytes.concat(all, _signed(key, digest));
            previous = signer;
        }
    }

    function _nextSeat(address previous) private view returns (uint256 key, address signer) {
        signer = address(type(uint160).max);
        for (uint256 index = 0; index < members.length; ++index) {
            address seat = registry.membership(run, members[index]).seatKey;
            if (seat > previous && seat <= signer) (key, signer) = (keyOf[members[index]], seat);
        }
    }

    function _seatCount() internal view returns (uint256 count) {
        for (uint256 index = 0; index < members.length; ++index) {
            if (registry.membership(run, members[index]).seatKey != address(0)) ++count;
        }
    }

    function _certify(bool isEmpty, bytes32[] memory drops, uint256 signatures) internal returns (bool) {
        IRuns.Course memory course = registry.course(run);
        (bytes32 head, bytes32 stateRoot) = registry.headOf(run);
        IRuns.Body memory body = IRuns.Body({
            run: run,
            round: course.round + 1,
            previousHead: head,
            updatesRoot: isEmpty ? bytes32(0) : keccak256(abi.encode("updates", course.round)),
            stateRoot: isEmpty ? stateRoot : keccak256(abi.encode("state", course.round)),
            trainersRoot: bytes32(uint256(3)),
            promotions: new IRuns.Promotion[](0),
            drops: drops
        });
        bytes32 digest = _typed(address(registry), _bodyHash(body));
        try registry.certify(body, _signatures(digest, signatures)) {
            return true;
        } catch {
            return false;
        }
    }

    function _bodyHash(IRuns.Body memory body) private pure returns (bytes32) {
        bytes32 kind = keccak256(
            "Body(uint64 run,uint64 round,bytes32 previousHead,bytes32 updatesRoot,bytes32 stateRoot,"
            "bytes32 trainersRoot,Promotion[] promotions,bytes32[] drops)Promotion(bytes32 member,address key)"
        );
        return keccak256(
            bytes.concat(
                abi.encode(kind, body.run, body.round, body.previousHead, body.updatesRoot, body.stateRoot),
                abi.encode(body.trainersRoot, keccak256(""), keccak256(abi.encodePacked(body.drops)))
            )
        );
    }
}

/// @title What forge asks a test of invariants: whom to call.
abstract contract Targets {
    address[] private _targets;

    function targetContracts() external view returns (address[] memory) {
        return _targets;
    }

    function _target(address handler) internal {
        _targets.push(handler);
    }
}
