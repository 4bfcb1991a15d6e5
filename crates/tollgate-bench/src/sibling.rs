//! The other programs that a benchmark starts: built with the same profile, found beside this one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of this workspace.
#[derive(Clone, Copy, Debug)]
pub struct Sibling {
    package: &'static str,
    program: &'static str,
    /// A feature that it needs.
    feature: Option<&'static str>,
}

impl Sibling {
    /// The process whose memory is measured.
    pub const MEMORY_CHILD: Self = Self::of("tollgate-bench", "tollgate-bench-memory");
    /// The bare server.
    pub const BARE_SERVER: Self = Self::of("tollgate-bench", "tollgate-bench-bare");
    /// The bare reverse proxy.
    pub const BARE_PROXY: Self = Self::of("tollgate-bench", "tollgate-bench-proxy");
    /// The model server without a model.
    pub const MOCK_MODEL: Self = Self {
        feature: Some("tollgate-gateway/mock-model"),
        ..Self::of("tollgate-gateway", "tollgate-mock-model")
    };
    /// The bare server over gRPC.
    pub const BARE_GRPC: Self = Self::of("tollgate-bench", "tollgate-bench-bare-grpc");
    /// The server.
    pub const TOLLGATE: Self = Self::of("tollgate-server", "tollgate");

    const fn of(package: &'static str, program: &'static str) -> Self {
        Self { package, program, feature: None }
    }

    /// The path of the program. Under `cargo run` and `cargo test` it is built first, so that no outdated one is
    /// measured; otherwise it must exist.
    pub fn built(self) -> Result<PathBuf, String> {
        let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
        let directory = profile_directory(&this)
            .ok_or_else(|| format!("{}: is in no directory of a build", this.display()))?;
        if let Some(cargo) = std::env::var_os("CARGO") {
            self.build(Command::new(cargo), directory)?;
        }
        self.found()
    }

    /// The path of the program, even if it is outdated: enough to test that it runs.
    pub fn found(self) -> Result<PathBuf, String> {
        let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
        let directory = profile_directory(&this)
            .ok_or_else(|| format!("{}: is in no directory of a build", this.display()))?;
        let program = directory.join(self.program);
        if program.is_file() {
            Ok(program)
        } else {
            Err(format!(
                "{}: is missing; build it with `cargo build --release -p {} --bin {}`",
                program.display(),
                self.package,
                self.program
            ))
        }
    }

    fn build(self, mut cargo: Command, directory: &Path) -> Result<(), String> {
        let profile = match directory.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        cargo.args(["build", "--quiet", "--profile", profile]);
        cargo.args(["--package", self.package, "--bin", self.program]);
        if let Some(feature) = self.feature {
            cargo.args(["--features", feature]);
        }
        match cargo.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("building {}: cargo failed ({status})", self.program)),
            Err(error) => Err(format!("building {}: {error}", self.program)),
        }
    }
}

/// The directory that all profiles are built in, and that `scripts/setup` installs tools in.
pub fn target_directory() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let target = profile_directory(&this).and_then(Path::parent);
    target
        .map(Path::to_owned)
        .ok_or_else(|| format!("{}: is in no directory of a build", this.display()))
}

/// The build directory of `program`; tests are in `deps` below it.
fn profile_directory(program: &Path) -> Option<&Path> {
    let directory = program.parent()?;
    if directory.ends_with("deps") { directory.parent() } else { Some(directory) }
}
