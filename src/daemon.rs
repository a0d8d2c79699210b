//! The daemon: one closed enum of messages and one loop that owns all state.
