// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAdmission} from "./IAdmission.sol";
import {IMembers} from "./IMembers.sol";
import {IRollCalls} from "./IRollCalls.sol";
import {IRounds} from "./IRounds.sol";

/// @title The registry as other contracts know it.
interface IRunRegistry is IMembers, IAdmission, IRounds, IRollCalls {}
