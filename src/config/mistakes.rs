//! What is wrong with the settings, gathered; and secrets, which may lie in files.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// What is wrong with the settings: one line each, with what to do.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<String>);

impl std::fmt::Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} wrong in the settings:",
            if self.0.len() == 1 { "one thing is" } else { "several things are" }
        )?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  - {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

impl Mistakes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, mistake: impl Into<String>) {
        self.0.push(mistake.into());
    }

    pub(super) fn read<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        how: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.push(format!("{name}: {error}; {how}"))).ok()
    }
}

/// A secret: its value, or the content of the file that `NAME_FILE` names.
///
/// A previous one (`…_PREVIOUS`) may be empty, and its file absent: there is one during a rotation only, and a reload must be
/// able to find it and to find it gone.
pub(super) fn secret(wrong: &mut Mistakes, name: &str, value: Option<&SecretString>) -> Option<SecretString> {
    let file_name = format!("{name}_FILE");
    let may_be_absent = name.ends_with("_PREVIOUS");
    let value = value.filter(|value| !(may_be_absent && value.expose_secret().trim().is_empty()));
    if value.is_some_and(|value| value.expose_secret().trim().is_empty()) {
        wrong.push(format!("{name} is set and empty: give it a value, or unset it"));
        return None;
    }
    match (value, std::env::var_os(&file_name)) {
        (Some(_), Some(_)) => {
            wrong.push(format!("{name} and {file_name} are both set: use one"));
            None
        }
        (Some(value), None) => Some(value.clone()),
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            let absent = match std::fs::read_to_string(&path) {
                Ok(text) => text.trim().is_empty(),
                Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            };
            if may_be_absent && absent { None } else { read_secret_file(wrong, &file_name, &path) }
        }
        (None, None) => None,
    }
}

pub(super) fn read_secret_file(wrong: &mut Mistakes, name: &str, path: &PathBuf) -> Option<SecretString> {
    let how = format!("make {} readable for this user", path.display());
    let text = wrong.read(name, &how, std::fs::read_to_string(path))?;
    if text.trim().is_empty() {
        wrong.push(format!("{name}: {} is empty", path.display()));
        return None;
    }
    Some(text.trim().into())
}

/// A secret that stands in a path can be written there, and not be guessed.
pub(super) fn check_path_secret(wrong: &mut Mistakes, name: &str, secret: &SecretString) {
    let fits = secret.expose_secret().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b));
    if !fits || secret.expose_secret().len() < 16 {
        wrong.push(format!(
            "{name}: at least 16 characters of letters, digits and - _ . ~ (it stands in a URL path); \
             make one with `openssl rand -hex 24`"
        ));
    }
}

/// Reads a duration.
pub(super) fn duration(wrong: &mut Mistakes, name: &str, text: &str) -> Option<Duration> {
    wrong.read(name, "write a duration such as 4s, 5m, 24h or 90d", humantime::parse_duration(text))
}
