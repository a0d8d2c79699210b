//! What the program computes against what the reference libraries computed from the same sound.
//!
//! The expectations under `fixtures/` are made by the Python scripts in this folder, with the
//! versions in `requirements.txt`; nothing here needs Python.

mod ast;
mod clap;
mod clap_gradients;
mod contrast;
mod ecapa;
mod efficientat;
mod front_ends;
mod pipelines;
mod speech;
mod spoil;
mod support;
mod trained;
mod whisper;
mod zero_shot;
