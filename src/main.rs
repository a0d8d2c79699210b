//! The `hark` program: everything is in [`harkd::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    harkd::cli::main()
}
