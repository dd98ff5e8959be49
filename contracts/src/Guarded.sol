// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IGuarded} from "./interfaces/IGuarded.sol";

/// @title The guardian's role.
abstract contract Guarded is IGuarded {
    /// @inheritdoc IGuarded
    address public guardian;
    /// @inheritdoc IGuarded
    bool public paused;
    /// @inheritdoc IGuarded
    address public offered;

    modifier onlyGuardian() {
        if (msg.sender != guardian) revert NotGuardian(msg.sender);
        _;
    }

    modifier whenOpen() {
        if (paused) revert EntryPaused();
        _;
    }

    constructor(address first) {
        _setGuardian(first);
    }

    /// @inheritdoc IGuarded
    function setPaused(bool stop) external onlyGuardian {
        _setPaused(stop);
    }

    /// @inheritdoc IGuarded
    function offerGuardian(address to) external onlyGuardian {
        offered = to;
        emit GuardianOffered(to);
    }

    /// @inheritdoc IGuarded
    function acceptGuardian() external {
        if (msg.sender != offered) revert NotOffered(msg.sender);
        _setGuardian(msg.sender);
    }

    /// @inheritdoc IGuarded
    function renounceGuardian() external onlyGuardian {
        if (paused) _setPaused(false);
        _setGuardian(address(0));
    }

    /// @dev For constructors: a wrong address here could never be mended.
    function _contractAt(address given) internal view returns (address) {
        if (given.code.length == 0) revert NoContract(given);
        return given;
    }

    function _setPaused(bool stop) private {
        paused = stop;
        emit PausedChanged(stop);
    }

    function _setGuardian(address next) private {
        guardian = next;
        delete offered;
        emit GuardianChanged(next);
    }
}
