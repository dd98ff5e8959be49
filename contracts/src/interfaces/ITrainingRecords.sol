// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Training records: who asked for which training, on what, at which price, and what came of it.
/// @notice For runs and single jobs alike. What a sender says of its hardware and prices is a claim, and is shown as one;
/// what the ledger knows itself (sender, times, a run's state) is not taken from anybody.
interface ITrainingRecords {
    enum Stage {
        None,
        Requested,
        Started,
        Trained,
        Saved,
        Published,
        Closed
    }

    /// @param run the run that this is about, whose owner sends it; zero for a single job
    /// @param source the hash of the recipe or script
    /// @param pricePerHour of a GPU, in millionths of a US dollar
    /// @param parameterCount of the model
    /// @param gpu which GPUs are used, at most 64 bytes
    /// @param provider who provides them, at most 64 bytes
    /// @param model which model is trained, at most 96 bytes
    /// @param theme what it is about, at most 64 bytes
    /// @param parameters the key hyper-parameters as canonical JSON, at most 1024 bytes
    struct Request {
        uint64 run;
        bytes32 source;
        uint64 pricePerHour;
        uint64 parameterCount;
        string gpu;
        string provider;
        string model;
        string theme;
        string parameters;
    }

    /// @param manifest the hash of the finished model's manifest; for a run the record binds the last state root beside it
    /// @param table the hash of the table of what each peer used; zero with one peer
    /// @param trainingSeconds time training, as claimed
    /// @param gpuSeconds of all GPUs together, as claimed
    /// @param peers how many took part
    struct Result {
        bytes32 manifest;
        bytes32 table;
        uint64 trainingSeconds;
        uint64 gpuSeconds;
        uint32 peers;
    }

    /// @notice What is kept of a record beside the claims.
    /// @param sender who asked for it
    /// @param requestedAt the time of that block
    /// @param stage how far it has come
    /// @param data where the claims are, as the code of an account
    /// @param run the run, or zero
    /// @param closedAt the time of the block that closed it
    /// @param round rounds of the run then
    /// @param stateRoot the run's state then
    struct Entry {
        address sender;
        uint64 requestedAt;
        Stage stage;
        address data;
        uint64 run;
        uint64 closedAt;
        uint64 round;
        bytes32 stateRoot;
        Result result;
    }

    /// @notice Somebody asks for a training; the claims are in `getRecord`.
    event RecordOpened(uint256 indexed record, address indexed sender, uint64 indexed run, bytes32 source, bytes claims);
    /// @notice A training has come this far; `evidence` is the hash of what shows it.
    event StageReached(uint256 indexed record, Stage stage, bytes32 evidence);
    /// @notice The record is complete.
    event RecordClosed(uint256 indexed record, uint64 round, bytes32 stateRoot, Result result, bool bySeats);

    /// @notice The registry has no code.
    error NoRegistry(address given);
    /// @notice A recipe or script is needed.
    error MissingSource();
    /// @notice A text is longer than is kept.
    error TextTooLong(uint256 length, uint256 max);
    /// @notice The claims could not be stored.
    error NotStored();
    /// @notice Only the run's owner opens a record of it.
    error NotRunOwner(uint64 run, address sender);
    /// @notice There is no such record.
    error UnknownRecord(uint256 record);
    /// @notice Only who opened the record does this.
    error NotSender(uint256 record, address sender);
    /// @notice Stages come one after the other, and are not said twice.
    error WrongStage(Stage given, Stage reached);
    /// @notice The record is closed: nothing changes any more.
    error RecordIsClosed(uint256 record);
    /// @notice A single job has no seats that could close its record.
    error NoSeats(uint256 record);

    /// @notice Open a record.
    /// @return record its number, from 1
    function open(Request calldata request) external returns (uint256 record);

    /// @notice Say how far a training has come, as the sender of its request.
    function reach(uint256 record, Stage stage, bytes32 evidence) external;

    /// @notice Close a record, as its sender.
    function close(uint256 record, Result calldata result) external;

    /// @notice Close the record of a run; anyone may submit it.
    /// @param signatures of two thirds of the run's seats over the EIP-712 digest of the closing, sorted by signer. It
    /// names round and state root, so that it counts for this end of the run only.
    function closeBySeats(uint256 record, Result calldata result, bytes calldata signatures) external;

    /// @notice How many records there are.
    function recordCount() external view returns (uint256);

    /// @notice A record with its claims.
    function getRecord(uint256 record) external view returns (Entry memory entry, Request memory request);

    /// @notice What the seats sign to close the record of a run as it is now.
    function closingDigest(uint256 record, Result calldata result) external view returns (bytes32);
}
