// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Token} from "./Token.sol";

/// Says false where others revert: its transaction succeeds, nothing moves and nothing is emitted.
contract FalseToken is Token {
    function transfer(address to, uint256 value) external override returns (bool) {
        if (held[msg.sender] < value) return false;
        move(msg.sender, to, value);
        return true;
    }
}
