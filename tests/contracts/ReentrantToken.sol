// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Token} from "./Token.sol";

/// Calls itself in the middle of a transfer: a second transfer is nested in the first, and its event comes before.
contract ReentrantToken is Token {
    bool private entered;

    function move(address from, address to, uint256 value) internal override {
        if (!entered) {
            entered = true;
            ReentrantToken(address(this)).again(from, to, value / 2);
            entered = false;
            value -= value / 2;
        }
        super.move(from, to, value);
    }

    function again(address from, address to, uint256 value) external {
        require(msg.sender == address(this));
        move(from, to, value);
    }
}
