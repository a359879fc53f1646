// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Token} from "./Token.sol";

/// Rebasing: every balance changes at once, without an event.
contract RebasingToken is Token {
    uint256 public percent = 100;

    function rebase(uint256 percent_) external {
        percent = percent_;
    }

    function balanceOf(address owner) public view override returns (uint256) {
        return held[owner] * percent / 100;
    }

    /// A transfer and a rebase in one transaction, so that both are in one block.
    function transferAndRebase(address to, uint256 value, uint256 percent_) external {
        move(msg.sender, to, value);
        percent = percent_;
    }
}
