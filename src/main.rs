//! septet: a folder of personas in, a folder of transcripts out. See the library for the flow.

use std::process::ExitCode;

fn main() -> ExitCode {
    septet::cli::main()
}
