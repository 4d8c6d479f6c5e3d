//! One stream's state machine.
