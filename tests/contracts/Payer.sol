// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// Pays ether in the ways that show in no log and in no transaction's value.
contract Payer {
    constructor() payable {}

    receive() external payable {}

    /// Multi-send: the whole value in equal parts, by calls.
    function split(address payable[] calldata to) external payable {
        for (uint256 i = 0; i < to.length; i++) {
            (bool done, ) = to[i].call{value: msg.value / to.length}("");
            require(done);
        }
    }

    /// What the receiver is paid from was put here before, and nothing names the receiver but this contract's storage.
    address payable public heir;

    function name(address payable heir_) external {
        heir = heir_;
    }

    function pay(uint256 value) external {
        heir.transfer(value);
    }

    /// A payment that is undone: the inner call reverts and the transaction succeeds.
    function tryToPay(address payable to, uint256 value) external {
        try this.payAndFail(to, value) {} catch {}
    }

    function payAndFail(address payable to, uint256 value) external {
        to.transfer(value);
        revert();
    }

    /// EIP-6780: the code may stay, the balance goes.
    function destroy(address payable to) external {
        selfdestruct(to);
    }
}
