// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bytes} from "@openzeppelin/contracts/utils/Bytes.sol";
import {ITrainingRecords} from "../interfaces/ITrainingRecords.sol";

/// @title What a sender claims of its training, packed, and kept as the code of an account: a third of what storage costs.
/// @dev Packed: source (32 bytes), price (8), count (8), and the five texts, each after its length (2).
library Claims {
    using Bytes for bytes;

    uint256 private constant _TEXT_BYTES_MAX = 64;
    uint256 private constant _MODEL_BYTES_MAX = 96;
    uint256 private constant _PARAMETERS_BYTES_MAX = 1024;
    /// @dev Code that begins with STOP can be read and never run.
    bytes1 private constant _STOP = 0x00;
    /// @dev Returns all that follows these eleven bytes as the new account's code.
    bytes11 private constant _CREATION = hex"600b5981380380925939f3";

    /// @notice Creates an account with these bytes. Zero if that failed.
    function write(bytes memory content) internal returns (address account) {
        bytes memory creation = abi.encodePacked(_CREATION, _STOP, content);
        assembly ("memory-safe") {
            account := create(0, add(creation, 0x20), mload(creation))
        }
    }

    /// @notice What was written there.
    function read(address account) internal view returns (bytes memory content) {
        uint256 size = account.code.length - 1;
        content = new bytes(size);
        assembly ("memory-safe") {
            extcodecopy(account, add(content, 0x20), 1, size)
        }
    }

    /// @notice The claims of a request as bytes. Reverts where a text is too long.
    function packed(ITrainingRecords.Request calldata request) internal pure returns (bytes memory) {
        return bytes.concat(
            abi.encodePacked(request.source, request.pricePerHour, request.parameterCount),
            _text(request.gpu, _TEXT_BYTES_MAX),
            _text(request.provider, _TEXT_BYTES_MAX),
            _text(request.model, _MODEL_BYTES_MAX),
            _text(request.theme, _TEXT_BYTES_MAX),
            _text(request.parameters, _PARAMETERS_BYTES_MAX)
        );
    }

    /// @notice The request that was packed.
    function unpacked(uint64 run, bytes memory claims)
        internal
        pure
        returns (ITrainingRecords.Request memory request)
    {
        request.run = run;
        request.source = bytes32(claims.slice(0, 32));
        request.pricePerHour = uint64(bytes8(claims.slice(32, 40)));
        request.parameterCount = uint64(bytes8(claims.slice(40, 48)));
        uint256 next = 48;
        (request.gpu, next) = _textAt(claims, next);
        (request.provider, next) = _textAt(claims, next);
        (request.model, next) = _textAt(claims, next);
        (request.theme, next) = _textAt(claims, next);
        (request.parameters, next) = _textAt(claims, next);
    }

    function _text(string calldata text, uint256 max) private pure returns (bytes memory) {
        uint256 length = bytes(text).length;
        if (length > max) revert ITrainingRecords.TextTooLong(length, max);
        return abi.encodePacked(uint16(length), text);
    }

    function _textAt(bytes memory claims, uint256 start) private pure returns (string memory text, uint256 end) {
        uint256 from = start + 2;
        end = from + uint16(bytes2(claims.slice(start, from)));
        text = string(claims.slice(from, end));
    }
}
