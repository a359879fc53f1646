// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Token} from "./Token.sol";

/// Fee on transfer: a hundredth never arrives, and the event names the whole.
contract FeeToken is Token {
    function move(address from, address to, uint256 value) internal override {
        held[from] -= value;
        held[to] += value - value / 100;
        totalSupply -= value / 100;
        emit Transfer(from, to, value);
    }
}
