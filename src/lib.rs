//! `harkd`, the computer's ears: a real-time sound recogniser for Linux.
//!
//! # The house
//!
//! A file imports siblings of its own folder and anything on a lower floor, never upward;
//! `tests/architecture.rs` holds the tree to that.
//!
//! | floor | rooms |
//! |---|---|
//! | F0 | [`event`] (one plain record), [`clock`] (sample index and wall time), [`command`] (what can be asked of a running daemon), [`config`] (one file per section family) |
//! | F1 | [`audio`] (sources, ring, resampling), [`features`] (one incremental log-mel; the front ends of published checkpoints over one spectrum), [`kernels`] (SIMD, the only `unsafe`), [`nn`] (layers, batch and per-frame), [`detect`] (pure decisions) |
//! | F2 | [`models`] (one file per architecture, the registry, the embedded weights), [`hub`] (pulling repositories into the cache that Python shares) |
//! | F3 | [`pipeline`] (threads and schedule), [`outputs`] (socket, D-Bus, wire format), [`train`] (data, augmentation, trainer, metrics) |
//! | F4 | [`daemon`] (one closed enum of messages, one loop) |
//! | F5 | [`cli`] (one file per verb) |
//!
//! # How sound flows
//!
//! ```text
//! capture callback --SPSC ring--> listener thread: resample, log-mel, keyword step on every frame, level
//!                                   |-- keyword scores -------------------------------.
//!                                   `-- window due (latest wins) --> a worker a model -+--> detect
//!                                       (a gated one: where something stands out)
//!                                                                                         | Event
//!                                                     bounded queue per output: socket, D-Bus
//! ```
//!
//! # Invariants
//!
//! - The capture callback only mixes and pushes: no allocation, lock, log or system call.
//! - Time is a sample index; wall time is derived in [`clock`] alone. A gap is a counted
//!   discontinuity that resets streaming state.
//! - [`detect`] is pure: scores and sample indices in, decisions out.
//! - Live use and training share [`features`]; the front-end specification is stored beside the
//!   weights and checked at load.
//! - No tensor library runs on the per-frame path.
//! - A dead output, bus or client never stops listening.
//! - Nothing heard leaves memory, and no network connection is made unless asked: `models pull`,
//!   through [`hub`], which neither the daemon nor any other verb uses to download.

pub mod audio;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod daemon;
pub mod detect;
pub mod event;
pub mod features;
pub mod hub;
pub mod kernels;
pub mod models;
pub mod nn;
pub mod outputs;
pub mod pipeline;
pub mod train;
