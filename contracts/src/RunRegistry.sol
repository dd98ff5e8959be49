// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Admission} from "./Admission.sol";
import {RollCalls} from "./RollCalls.sol";
import {Rounds} from "./Rounds.sol";

/// @title Order and membership of training runs: what the ledger decides, and nobody else.
/// @notice Immutable, without an owner and without money. It keeps one head per run; every past round is proven by
/// events against that head.
contract RunRegistry is Admission, Rounds, RollCalls {
    constructor() EIP712("DisTrAI", "1") {}
}
