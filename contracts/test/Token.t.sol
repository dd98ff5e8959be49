// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Token} from "../src/Token.sol";
import {Targets} from "./Scene.sol";
import {Vm} from "./Vm.sol";

/// @title Holders that send each other everything they can.
contract Holders {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 public constant COUNT = 4;
    Token public token = new Token("Play", "PLAY", address(this), 1e27);

    constructor() {
        for (uint256 i = 0; i < COUNT; ++i) token.transfer(holder(i), 1e27 / COUNT);
    }

    function holder(uint256 i) public pure returns (address) {
        return address(uint160(1_000 + i % COUNT));
    }

    function transfer(uint256 from, uint256 to, uint256 amount) external {
        vm.prank(holder(from));
        token.transfer(holder(to), amount % 1e27);
    }

    function transferFrom(uint256 from, uint256 to, uint256 by, uint256 amount) external {
        vm.prank(holder(from));
        token.approve(holder(by), amount % 1e27);
        vm.prank(holder(by));
        token.transferFrom(holder(from), holder(to), amount % 1e27);
    }
}

contract TokenInvariants is Targets {
    Holders private _holders;

    function setUp() external {
        _holders = new Holders();
        _target(address(_holders));
    }

    function invariant_supply_is_fixed_and_all_of_it_is_held() external view {
        Token token = _holders.token();
        uint256 held = token.balanceOf(address(_holders));
        for (uint256 i = 0; i < _holders.COUNT(); ++i) held += token.balanceOf(_holders.holder(i));
        assert(held == 1e27 && token.totalSupply() == 1e27);
    }
}
