// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Claims} from "./libraries/Claims.sol";
import {IRunRegistry} from "./interfaces/IRunRegistry.sol";
import {ITrainingRecords} from "./interfaces/ITrainingRecords.sol";

/// @title Records of trainings.
/// @notice Immutable, without an owner and without money.
contract TrainingRecords is ITrainingRecords, EIP712 {
    bytes32 private constant _CLOSING = keccak256(
        "Closing(uint256 record,uint64 run,uint64 round,bytes32 stateRoot,bytes32 manifest,bytes32 table,"
        "uint64 trainingSeconds,uint64 gpuSeconds,uint32 peers)"
    );

    IRunRegistry public immutable registry;

    /// @inheritdoc ITrainingRecords
    uint256 public recordCount;

    mapping(uint256 record => Entry) private _entries;

    constructor(address runs) EIP712("DisTrAI", "1") {
        if (runs.code.length == 0) revert NoRegistry(runs);
        registry = IRunRegistry(runs);
    }

    /// @inheritdoc ITrainingRecords
    function open(Request calldata request) external returns (uint256 record) {
        if (request.source == 0) revert MissingSource();
        if (request.run != 0 && registry.ownerOf(request.run) != msg.sender) {
            revert NotRunOwner(request.run, msg.sender);
        }
        bytes memory claims = Claims.packed(request);
        address data = Claims.write(claims);
        if (data == address(0)) revert NotStored();
        record = ++recordCount;
        Entry storage entry = _entries[record];
        (entry.sender, entry.requestedAt, entry.stage) = (msg.sender, uint64(block.timestamp), Stage.Requested);
        (entry.data, entry.run) = (data, request.run);
        emit RecordOpened(record, msg.sender, request.run, request.source, claims);
    }

    /// @inheritdoc ITrainingRecords
    function reach(uint256 record, Stage stage, bytes32 evidence) external {
        Entry storage entry = _ownEntry(record);
        if (stage <= entry.stage || stage >= Stage.Closed) revert WrongStage(stage, entry.stage);
        entry.stage = stage;
        emit StageReached(record, stage, evidence);
    }

    /// @inheritdoc ITrainingRecords
    function close(uint256 record, Result calldata result) external {
        _close(record, _ownEntry(record), result, false);
    }

    /// @inheritdoc ITrainingRecords
    function closeBySeats(uint256 record, Result calldata result, bytes calldata signatures) external {
        Entry storage entry = _openEntry(record);
        if (entry.run == 0) revert NoSeats(record);
        registry.checkQuorum(entry.run, closingDigest(record, result), signatures);
        _close(record, entry, result, true);
    }

    /// @inheritdoc ITrainingRecords
    function getRecord(uint256 record) external view returns (Entry memory entry, Request memory request) {
        entry = _entries[record];
        if (entry.stage == Stage.None) revert UnknownRecord(record);
        request = Claims.unpacked(entry.run, Claims.read(entry.data));
    }

    /// @inheritdoc ITrainingRecords
    function closingDigest(uint256 record, Result calldata result) public view returns (bytes32) {
        uint64 run = _entries[record].run;
        (uint64 round, bytes32 stateRoot) = _reached(run);
        return _hashTypedDataV4(keccak256(abi.encode(_CLOSING, record, run, round, stateRoot, result)));
    }

    function _close(uint256 record, Entry storage entry, Result calldata result, bool bySeats) private {
        (uint64 round, bytes32 stateRoot) = _reached(entry.run);
        (entry.stage, entry.closedAt) = (Stage.Closed, uint64(block.timestamp));
        (entry.round, entry.stateRoot, entry.result) = (round, stateRoot, result);
        emit RecordClosed(record, round, stateRoot, result, bySeats);
    }

    /// @dev Where a run stands; nothing for a single job.
    function _reached(uint64 run) private view returns (uint64 round, bytes32 stateRoot) {
        if (run == 0) return (0, 0);
        (, stateRoot) = registry.headOf(run);
        return (registry.course(run).round, stateRoot);
    }

    function _openEntry(uint256 record) private view returns (Entry storage entry) {
        entry = _entries[record];
        if (entry.stage == Stage.None) revert UnknownRecord(record);
        if (entry.stage == Stage.Closed) revert RecordIsClosed(record);
    }

    function _ownEntry(uint256 record) private view returns (Entry storage entry) {
        entry = _openEntry(record);
        if (entry.sender != msg.sender) revert NotSender(record, msg.sender);
    }
}
