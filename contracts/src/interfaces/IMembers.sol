// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who can take part: permanent member ids with attributes that may change.
/// @notice A member id outlives its keys, so that what a member earned, staked or did wrong stays with it when a key
/// is rotated. There is no list of members to loop over, and nobody has power over another's member.
interface IMembers {
    /// @param controller the one address that may change the attributes
    /// @param rotations how often the node key was changed; the nonce of the next Rotation
    /// @param key the node key that signs for the member now
    /// @param keySince the block from which it does
    /// @param payout where rewards go; zero means the controller, whoever that is at the time
    struct Member {
        address controller;
        uint64 rotations;
        address key;
        uint64 keySince;
        address payout;
    }

    /// @notice A member exists. `payout` zero means the controller.
    event MemberRegistered(bytes32 indexed member, address indexed controller, address key, address payout);
    /// @notice A member signs with another key from this block on; a seat keeps its old one until it is promoted.
    event NodeKeyChanged(bytes32 indexed member, address key);
    /// @notice The controller, the payout address or both changed.
    event AttributesChanged(bytes32 indexed member, address controller, address payout);

    /// @notice This creator has used this nonce already.
    error MemberExists(bytes32 member);
    /// @notice No member has this id.
    error UnknownMember(bytes32 member);
    /// @notice Only its controller changes a member.
    error NotController(bytes32 member, address sender);
    /// @notice A key belongs to one member for ever, also after it was replaced.
    error KeyTaken(address key, bytes32 member);
    /// @notice A signature is by another key than it must be by.
    error WrongSigner(address expected, address signer);
    /// @notice A controller or a node key cannot be the zero address: nobody could ever act for it.
    error ZeroAddress();

    /// @notice Make a member. Its id is keccak(registry, sender, nonce): nobody can take an id that another announced.
    /// @param nonce any number that the sender has not used yet
    /// @param controller the one that may change the attributes
    /// @param key the node key
    /// @param payout where rewards go, or zero for "the controller"
    /// @param signature Registration(creator, nonce, controller, payout) by `key`: nobody enters another's key
    /// @return member the id
    function register(uint256 nonce, address controller, address key, address payout, bytes calldata signature)
        external
        returns (bytes32 member);

    /// @notice Change the node key, as the controller. Seats keep the old key until a certificate promotes the new one.
    /// @param signature Rotation(member, newKey, nonce) by `newKey`; the nonce is the member's `rotations`
    function rotateKey(bytes32 member, address newKey, bytes calldata signature) external;

    /// @notice Hand a member over or change where its rewards go, as the controller.
    function setAttributes(bytes32 member, address controller, address payout) external;

    /// @notice A member's attributes; all zero if there is none with this id.
    function getMember(bytes32 member) external view returns (Member memory);

    /// @notice Who may change a member's attributes; zero if there is no such member.
    function controllerOf(bytes32 member) external view returns (address);

    /// @notice Where a member is paid now: its payout address, or else its controller; zero if there is no such member.
    function payee(bytes32 member) external view returns (address to);

    /// @notice The id that `register` gives to this creator and nonce.
    function memberId(address creator, uint256 nonce) external view returns (bytes32);

    /// @notice Whose key this is or was: zero if nobody's, and otherwise the same for ever.
    /// @return member the member
    /// @return fromBlock the block in which it became the member's key
    /// @return untilBlock the block in which it was replaced; zero while it is the member's key
    function keyRecord(address key) external view returns (bytes32 member, uint64 fromBlock, uint64 untilBlock);
}
