//! The program: reads the command line, starts the log, runs the command. All else is in the library.

use std::process::ExitCode;

use vobiz_cdr::cli::{self, Cli};

fn main() -> ExitCode {
    let (command_line, matches) = Cli::read();
    if let Err(refused) = command_line.start_logs() {
        return refused;
    }
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run(command_line, &matches)),
        Err(error) => {
            tracing::error!(%error, "the runtime could not be started");
            ExitCode::FAILURE
        }
    }
}
