"""One module a driver, each with ``CASES``: the contract suite runs on all of them."""
