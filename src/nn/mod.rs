//! Layers of the small embedded networks: one specification, a batch form for training on candle
//! and a hand-written per-frame form for live use, held equal by a test.

pub mod batch;
pub mod column;
pub mod layers;
pub mod ops;
pub mod params;
pub mod spec;
pub mod tflite;
pub mod weights;
