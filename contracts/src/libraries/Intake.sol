// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title Taking tokens in.
library Intake {
    using SafeERC20 for IERC20;

    /// @notice Another amount arrived than was sent: a token with a fee cannot be used, since others would pay it.
    error WrongAmountArrived(uint256 sent, uint256 arrived);

    /// @notice Takes `amount` from the sender, all of it or nothing.
    function take(IERC20 token, uint256 amount) internal {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 arrived = token.balanceOf(address(this)) - before;
        if (arrived != amount) revert WrongAmountArrived(amount, arrived);
    }
}
