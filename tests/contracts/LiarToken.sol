// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// Emits Transfer for anybody, and moves nothing.
contract LiarToken {
    uint8 public constant decimals = 6;

    event Transfer(address indexed from, address indexed to, uint256 value);

    function balanceOf(address) external pure returns (uint256) {
        return 0;
    }

    function pretend(address from, address to, uint256 value) external {
        emit Transfer(from, to, value);
    }
}
