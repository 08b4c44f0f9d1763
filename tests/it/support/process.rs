//! The built program as a process of its own.

use super::wait::until_some_blocking;
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The program, with none of the settings of the person who runs the tests.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vobiz-cdr"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CDR_")
            || text.starts_with("VOBIZ_")
            || text == "DATABASE_URL"
            || text == "DATABASE_URL_FILE"
            || text == "RUST_LOG"
            || ["https_proxy", "all_proxy"].contains(&text.to_lowercase().as_str())
        {
            command.env_remove(&name);
        }
    }
    // The default port is one for all, and tests run side by side.
    command.env("CDR_OPS_LISTEN", "127.0.0.1:0");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a finished program left behind.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Finished {
    let output = command.output().unwrap();
    Finished {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Who a command says has done it, where `SUDO_USER` says asha: whoever became root has a name, and nobody else may borrow one.
pub(crate) fn author() -> String {
    if rustix::process::getuid().is_root() {
        return "asha by sudo".into();
    }
    run(Command::new("id").arg("-un").stdout(Stdio::piped())).stdout.trim().to_owned()
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running `serve`; killed when it goes out of scope.
pub(crate) struct Serve {
    child: Child,
    /// Where its ops port is.
    pub(crate) ops: String,
}

impl Serve {
    /// Starts `serve` and waits until its public port answers.
    pub(crate) fn start(port: u16, settings: &[(&str, &str)]) -> Self {
        let mut command = program(&["serve"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self::start_by(command, port, settings)
    }

    /// The same with a command that may differ in its arguments and in where its words go.
    pub(crate) fn start_by(mut command: Command, port: u16, settings: &[(&str, &str)]) -> Self {
        let ops = format!("127.0.0.1:{}", free_port());
        command.env("CDR_LISTEN", format!("127.0.0.1:{port}")).env("CDR_OPS_LISTEN", &ops);
        command.envs(settings.iter().copied());
        let mut serve = Self { child: command.spawn().unwrap(), ops };
        // One that does not receive has only its ops port.
        let address = if port == 0 { serve.ops.clone() } else { format!("127.0.0.1:{port}") };
        until_some_blocking("serve answers", || {
            if let Some(status) = serve.child.try_wait().unwrap() {
                panic!("serve ended at its start: {status}");
            }
            std::net::TcpStream::connect(&address)
        });
        serve
    }

    /// What it says, once; it must have been started with a pipe for it.
    pub(crate) fn stderr(&mut self) -> std::process::ChildStderr {
        self.child.stderr.take().unwrap()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Any signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Several signals, one right after the other.
    pub(crate) fn signals(&self, names: &[&str]) {
        let id = self.child.id();
        let sent: Vec<String> = names.iter().map(|name| format!("kill -{name} {id}")).collect();
        assert!(Command::new("sh").args(["-c", &sent.join(" && ")]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until_some_blocking("serve ends", || self.child.try_wait().unwrap().ok_or("it runs"))
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
