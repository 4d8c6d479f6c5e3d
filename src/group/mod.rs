//! One group's state machine.
