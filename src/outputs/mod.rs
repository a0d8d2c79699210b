//! What the outside sees: one wire format, the socket, D-Bus.
