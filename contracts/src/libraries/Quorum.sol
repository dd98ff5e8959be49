// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title Whether enough seats signed.
library Quorum {
    uint256 internal constant SIGNATURE_BYTES = 65;
    /// @dev Half of the order of secp256k1: every signature has one with a high s as its twin, which is refused.
    uint256 private constant _S_MAX = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// @notice Signatures are 65 bytes each (r, s, v), one after the other.
    error BadSignaturesLength(uint256 length);
    /// @notice Fewer than two thirds of the seats signed.
    error NotEnoughSignatures(uint256 signatures, uint256 seats);
    /// @notice Signatures are sorted by the address of their signer, each once.
    error UnsortedSigners(address previous, address signer);
    /// @notice This address attests for no seat of the run: a foreign or an old key, or another body was signed.
    error NotASeatKey(address signer);

    /// @notice Reverts unless `signatures` are by two thirds of the seats over `digest`, sorted by signer. Ascending
    /// signers make repetition impossible, without a set of those seen.
    function check(
        mapping(address => bytes32) storage seatOfKey,
        uint256 seats,
        bytes32 digest,
        bytes calldata signatures
    ) internal view {
        uint256 count = signatures.length / SIGNATURE_BYTES;
        if (count * SIGNATURE_BYTES != signatures.length) revert BadSignaturesLength(signatures.length);
        if (!(seats >= 1 && 3 * count >= 2 * seats)) revert NotEnoughSignatures(count, seats);
        uint256 good = _countGood(seatOfKey, digest, signatures);
        if (good != signatures.length) _refuse(seatOfKey, digest, signatures, good);
    }

    /// @dev How many bytes of signatures are good before the first that is not. Assembly, since this is what a run
    /// costs: 6.5 k gas a signature, of which 3 k are the recovery, 2.1 k the seat's slot and 1 k the bytes themselves.
    /// Written in Solidity it is .3 k more.
    function _countGood(mapping(address => bytes32) storage seatOfKey, bytes32 digest, bytes calldata signatures)
        private
        view
        returns (uint256 good)
    {
        assembly ("memory-safe") {
            let input := mload(0x40) // digest, v, r, s: what the precompile reads
            mstore(input, digest)
            mstore(0x20, seatOfKey.slot) // and the signer at 0x00: what a mapping's slot is the hash of
            let previous := 0
            for {} lt(good, signatures.length) { good := add(good, 65) } {
                let from := add(signatures.offset, good)
                mstore(add(input, 0x20), byte(0, calldataload(add(from, 0x40))))
                calldatacopy(add(input, 0x40), from, 0x40)
                if gt(mload(add(input, 0x60)), _S_MAX) { break }
                mstore(0x00, 0) // stays if nothing can be recovered, and zero is not above anything
                pop(staticcall(gas(), 1, input, 0x80, 0x00, 0x20))
                let signer := mload(0x00)
                if iszero(gt(signer, previous)) { break }
                if iszero(sload(keccak256(0x00, 0x40))) { break }
                previous := signer
            }
        }
    }

    /// @dev Says what is wrong with the signature at `from`; the one before it is good.
    function _refuse(
        mapping(address => bytes32) storage seatOfKey,
        bytes32 digest,
        bytes calldata signatures,
        uint256 from
    ) private view {
        address signer = ECDSA.recoverCalldata(digest, signatures[from:from + SIGNATURE_BYTES]);
        address previous = from == 0
            ? address(0)
            : ECDSA.recoverCalldata(digest, signatures[from - SIGNATURE_BYTES:from]);
        if (signer <= previous) revert UnsortedSigners(previous, signer);
        assert(seatOfKey[signer] == 0);
        revert NotASeatKey(signer);
    }
}
