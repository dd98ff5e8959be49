// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IMembers} from "./interfaces/IMembers.sol";

/// @title Members: ids, keys and attributes.
abstract contract Members is IMembers, EIP712 {
    bytes32 private constant _REGISTRATION =
        keccak256("Registration(address creator,uint256 nonce,address controller,address payout)");
    bytes32 private constant _ROTATION = keccak256("Rotation(bytes32 member,address newKey,uint256 nonce)");

    /// @dev `Member` as it is stored: one slot tells where most members are paid.
    struct StoredMember {
        address controller;
        uint64 rotations;
        bool hasPayout;
        address key;
        uint64 keySince;
        address payout;
    }

    struct Validity {
        uint64 fromBlock;
        uint64 untilBlock;
    }

    mapping(bytes32 member => StoredMember) internal _members;
    /// @dev Append-only. A certificate may name any pair that is in here, whatever happened to the key since.
    mapping(address key => bytes32 member) internal _memberOfKey;
    /// @dev Of replaced keys only; a current key's first block is in its member.
    mapping(address key => Validity) private _validity;

    modifier onlyController(bytes32 member) {
        if (_existing(member).controller != msg.sender) revert NotController(member, msg.sender);
        _;
    }

    /// @inheritdoc IMembers
    function register(uint256 nonce, address controller, address key, address payout, bytes calldata signature)
        external
        returns (bytes32 member)
    {
        if (controller == address(0)) revert ZeroAddress();
        member = memberId(msg.sender, nonce);
        if (_members[member].controller != address(0)) revert MemberExists(member);
        bytes32 registration = keccak256(abi.encode(_REGISTRATION, msg.sender, nonce, controller, payout));
        _claim(key, member, registration, signature);
        StoredMember storage made = _members[member];
        (made.controller, made.hasPayout) = (controller, payout != address(0));
        (made.key, made.keySince) = (key, uint64(block.number));
        if (payout != address(0)) made.payout = payout;
        emit MemberRegistered(member, controller, key, payout);
    }

    /// @inheritdoc IMembers
    function rotateKey(bytes32 member, address newKey, bytes calldata signature) external onlyController(member) {
        StoredMember storage found = _members[member];
        _claim(newKey, member, keccak256(abi.encode(_ROTATION, member, newKey, uint256(found.rotations))), signature);
        _validity[found.key] = Validity(found.keySince, uint64(block.number));
        ++found.rotations;
        (found.key, found.keySince) = (newKey, uint64(block.number));
        emit NodeKeyChanged(member, newKey);
    }

    /// @inheritdoc IMembers
    function setAttributes(bytes32 member, address controller, address payout) external onlyController(member) {
        if (controller == address(0)) revert ZeroAddress();
        StoredMember storage found = _members[member];
        (found.controller, found.hasPayout, found.payout) = (controller, payout != address(0), payout);
        emit AttributesChanged(member, controller, payout);
    }

    /// @inheritdoc IMembers
    function getMember(bytes32 member) external view returns (Member memory) {
        StoredMember storage found = _members[member];
        return Member(found.controller, found.rotations, found.key, found.keySince, found.payout);
    }

    /// @inheritdoc IMembers
    function controllerOf(bytes32 member) external view returns (address) {
        return _members[member].controller;
    }

    /// @inheritdoc IMembers
    function payee(bytes32 member) external view returns (address to) {
        StoredMember storage found = _members[member];
        return found.hasPayout ? found.payout : found.controller;
    }

    /// @inheritdoc IMembers
    function memberId(address creator, uint256 nonce) public view returns (bytes32) {
        return keccak256(abi.encode(address(this), creator, nonce));
    }

    /// @inheritdoc IMembers
    function keyRecord(address key) external view returns (bytes32 member, uint64 fromBlock, uint64 untilBlock) {
        member = _memberOfKey[key];
        StoredMember storage found = _members[member];
        if (found.key == key) return (member, found.keySince, 0);
        return (member, _validity[key].fromBlock, _validity[key].untilBlock);
    }

    function _existing(bytes32 member) internal view returns (StoredMember storage found) {
        found = _members[member];
        if (found.controller == address(0)) revert UnknownMember(member);
    }

    /// @dev Reverts unless `signer` signed the struct with this hash in this contract's domain.
    function _checkSigner(address signer, bytes32 structHash, bytes calldata signature) internal view {
        address recovered = ECDSA.recoverCalldata(_hashTypedDataV4(structHash), signature);
        if (recovered != signer) revert WrongSigner(signer, recovered);
    }

    /// @dev Gives `key` to `member` for ever.
    function _claim(address key, bytes32 member, bytes32 structHash, bytes calldata signature) private {
        if (key == address(0)) revert ZeroAddress();
        bytes32 holder = _memberOfKey[key];
        if (holder != 0) revert KeyTaken(key, holder);
        _checkSigner(key, structHash, signature);
        _memberOfKey[key] = member;
    }
}
