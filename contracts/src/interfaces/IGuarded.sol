// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A guardian that can stop what comes in, and can never stop or take what goes out.
interface IGuarded {
    /// @notice Nothing comes in any more, or again; what is owed goes out as before.
    event PausedChanged(bool paused);
    /// @notice This address may become the guardian by accepting.
    event GuardianOffered(address indexed guardian);
    /// @notice The guardian changed; zero means nobody, for ever.
    event GuardianChanged(address indexed guardian);

    /// @notice Only the guardian does this.
    error NotGuardian(address sender);
    /// @notice Only the one to whom the role was offered takes it.
    error NotOffered(address sender);
    /// @notice The guardian paused what comes in. What is owed still goes out.
    error EntryPaused();
    /// @notice An address that must be a contract has no code.
    error NoContract(address given);

    /// @notice The guardian: a multisig, or zero for nobody.
    function guardian() external view returns (address);

    /// @notice To whom the role is offered.
    function offered() external view returns (address);

    /// @notice Whether nothing may come in.
    function paused() external view returns (bool);

    /// @notice Stop or allow what comes in, as the guardian.
    function setPaused(bool stop) external;

    /// @notice Offer the role, as the guardian. In two steps, since a mistyped address could never give it back.
    function offerGuardian(address to) external;

    /// @notice Take the role that was offered.
    function acceptGuardian() external;

    /// @notice Give the role up for ever, as the guardian. What was paused goes on: nobody could ever say so later.
    function renounceGuardian() external;
}
