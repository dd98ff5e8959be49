// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Member} from "./Types.sol";

/// @title Members: permanent ids whose keys and addresses may change.
/// @notice A node key signs its own registration and rotation, so nobody can squat the key of another. A key belongs to
/// at most one member, for ever: old certificates and updates can always be told whose they are.
abstract contract Members is EIP712 {
    bytes32 private constant REGISTRATION_TYPE =
        keccak256("Registration(address creator,uint256 nonce,address controller,address payout)");
    bytes32 private constant ROTATION_TYPE = keccak256("Rotation(bytes32 member,address newKey,uint256 nonce)");

    mapping(bytes32 member => Member) internal _members;
    mapping(address key => bytes32 member) public memberOfKey;
    mapping(address creator => uint256) public registrations;

    event MemberRegistered(bytes32 indexed member, address indexed controller, address key, address payout);
    event NodeKeyChanged(bytes32 indexed member, address key);
    event AttributesChanged(bytes32 indexed member, address controller, address payout);

    error KeyTaken(address key, bytes32 member);
    error NotSignedByKey(address expected, address signer);
    error UnknownMember(bytes32 member);
    error NotController(bytes32 member, address sender);
    error ZeroAddress();

    constructor() EIP712("DisTrAI", "1") {}

    /// @notice The attributes of a member.
    function memberOf(bytes32 member) external view returns (Member memory) {
        return _members[member];
    }

    /// @notice Become a member; the caller is the creator, which the id is made of.
    function register(address key, address controller, address payout, bytes calldata keySignature)
        external
        returns (bytes32 member)
    {
        if (key == address(0) || controller == address(0) || payout == address(0)) revert ZeroAddress();
        uint256 nonce = registrations[msg.sender]++;
        _requireSigner(
            key, keccak256(abi.encode(REGISTRATION_TYPE, msg.sender, nonce, controller, payout)), keySignature
        );
        member = keccak256(abi.encode(address(this), msg.sender, nonce));
        _takeKey(key, member);
        _members[member] = Member({controller: controller, key: key, payout: payout, rotations: 0});
        emit MemberRegistered(member, controller, key, payout);
    }

    /// @notice Sign with another node key from the next head on. The new key consents by its signature.
    function rotateKey(bytes32 member, address newKey, bytes calldata keySignature) external {
        Member storage attributes = _controlled(member);
        uint256 nonce = attributes.rotations++;
        _requireSigner(newKey, keccak256(abi.encode(ROTATION_TYPE, member, newKey, nonce)), keySignature);
        _takeKey(newKey, member);
        attributes.key = newKey;
        emit NodeKeyChanged(member, newKey);
    }

    /// @notice Change who controls a member and where its earnings go.
    function setAttributes(bytes32 member, address controller, address payout) external {
        if (controller == address(0) || payout == address(0)) revert ZeroAddress();
        Member storage attributes = _controlled(member);
        attributes.controller = controller;
        attributes.payout = payout;
        emit AttributesChanged(member, controller, payout);
    }

    function _keyOf(bytes32 member) internal view returns (address key) {
        key = _members[member].key;
        if (key == address(0)) revert UnknownMember(member);
    }

    function _requireSigner(address expected, bytes32 structHash, bytes calldata signature) internal view {
        address signer = ECDSA.recover(_hashTypedDataV4(structHash), signature);
        if (signer != expected) revert NotSignedByKey(expected, signer);
    }

    function _controlled(bytes32 member) private view returns (Member storage attributes) {
        attributes = _members[member];
        if (attributes.controller != msg.sender) revert NotController(member, msg.sender);
    }

    function _takeKey(address key, bytes32 member) private {
        bytes32 holder = memberOfKey[key];
        if (holder != 0) revert KeyTaken(key, holder);
        memberOfKey[key] = member;
    }
}
