//! Prompts: sounds that are asked for in plain words.

pub mod sentence;
