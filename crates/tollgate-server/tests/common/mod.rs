//! Shared by all tests of the program.

use std::process::Command;

use tempfile::TempDir;

/// The program, without any configuration from its environment.
pub(crate) fn tollgate(directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.current_dir(directory.path());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TOLLGATE_")) {
        command.env_remove(name);
    }
    command
}
