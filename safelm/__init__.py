"""The library: how each step of Safety Pretraining works, as pure functions and the DataTrove blocks that wrap them."""
