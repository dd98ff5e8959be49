// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITrainingRecords} from "../src/interfaces/ITrainingRecords.sol";
import {Scene, Targets} from "./Scene.sol";

/// @title Senders that open records, go on with their own and others', and close them.
contract Senders is Scene {
    bool public isWrong;
    mapping(uint256 record => address) private _senderOf;
    mapping(uint256 record => ITrainingRecords.Stage) private _stageOf;
    mapping(uint256 record => bytes32) private _claimsOf;

    constructor() {
        _deploy();
    }

    function open(uint256 by, bytes32 source, uint64 price, string calldata gpu, string calldata parameters) external {
        ITrainingRecords.Request memory request =
            ITrainingRecords.Request(0, source, price, price / 2, gpu, "a provider", "a model", "", parameters);
        vm.prank(_sender(by));
        uint256 record = records.open(request);
        if (bytes(gpu).length > 64 || bytes(parameters).length > 1024 || source == 0) isWrong = true;
        _senderOf[record] = _sender(by);
        _stageOf[record] = ITrainingRecords.Stage.Requested;
        _claimsOf[record] = keccak256(abi.encode(request));
    }

    function reach(uint256 by, uint256 record, uint8 stage) external {
        record = _record(record);
        ITrainingRecords.Stage next = ITrainingRecords.Stage(stage % 7);
        vm.prank(_sender(by));
        records.reach(record, next, bytes32(uint256(1)));
        if (_sender(by) != _senderOf[record] || next <= _stageOf[record]) isWrong = true;
        _stageOf[record] = next;
    }

    function close(uint256 by, uint256 record, uint64 time) external {
        record = _record(record);
        vm.prank(_sender(by));
        records.close(record, ITrainingRecords.Result(bytes32(uint256(2)), 0, time, time, 1));
        if (_sender(by) != _senderOf[record] || _stageOf[record] == ITrainingRecords.Stage.Closed) isWrong = true;
        _stageOf[record] = ITrainingRecords.Stage.Closed;
    }

    /// @dev The newest: those before were looked at when they were.
    function isKept() external view returns (bool) {
        uint256 count = records.recordCount();
        for (uint256 record = count > 3 ? count - 3 : 1; record <= count; ++record) {
            (ITrainingRecords.Entry memory entry, ITrainingRecords.Request memory request) = records.getRecord(record);
            if (entry.sender != _senderOf[record] || entry.stage != _stageOf[record]) return false;
            if (keccak256(abi.encode(request)) != _claimsOf[record]) return false;
        }
        return true;
    }

    function _sender(uint256 by) private pure returns (address) {
        return address(uint160(1 + by % 2));
    }

    function _record(uint256 record) private view returns (uint256) {
        uint256 count = records.recordCount();
        return count > 3 ? count - record % 4 : 1 + record % 4;
    }
}

contract TrainingRecordsInvariants is Targets {
    Senders private _senders;

    function setUp() external {
        _senders = new Senders();
        _target(address(_senders));
    }

    function invariant_records_are_what_was_said() external view {
        assert(_senders.isKept());
    }

    function invariant_only_the_sender_goes_on_and_never_back() external view {
        assert(!_senders.isWrong());
    }
}
