// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title A token for stakes and rewards, where no other is used.
/// @notice All of it exists from the beginning: nobody can make more, take anybody's, or stop transfers. Any ERC-20
/// without fees and without balances that move by themselves does as well.
contract Token is ERC20Permit {
    /// @notice A token that nobody holds, or of which there is nothing, is of no use.
    error NothingMinted();

    /// @param holder who gets all of it
    /// @param supply in base units, of which 10^18 are one token
    constructor(string memory name, string memory symbol, address holder, uint256 supply)
        ERC20(name, symbol)
        ERC20Permit(name)
    {
        if (supply == 0) revert NothingMinted();
        _mint(holder, supply);
    }
}
