//! The files that a `DATABASE_URL` names for TLS. One that is missing is said by its name: the way to Postgres says only that some file
//! is not there.

/// Why TLS as the URL wants it cannot begin.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} names the file {path}, which cannot be read ({error}): put the certificate there, readable for this user, or correct the path{way_out}"
)]
pub(super) struct NoTlsFile {
    name: &'static str,
    path: String,
    error: std::io::Error,
    way_out: &'static str,
}

/// Parameters of a URL, the variables that stand for them, and the way out where there is one.
const FILES: [(&[&str], &str, &str); 3] = [
    (
        &["sslrootcert", "ssl-root-cert", "ssl-ca"],
        "PGSSLROOTCERT",
        "; it is that of the authority that signed the certificate of Postgres (a cloud's offers it for download), and where one signed it \
         that this machine knows, leave sslrootcert out",
    ),
    (&["sslcert", "ssl-cert"], "PGSSLCERT", ""),
    (&["sslkey", "ssl-key"], "PGSSLKEY", ""),
];

/// Whether all files are there that a connection by this URL surely reads.
pub(super) fn check(url: &str) -> Result<(), NoTlsFile> {
    let parameters: Vec<(&str, &str)> = url
        .split_once('?')
        .map_or("", |(_, query)| query)
        .split('&')
        .filter_map(|parameter| parameter.split_once('='))
        .collect();
    let of = |names: &[&str]| {
        parameters.iter().rev().find(|(name, _)| names.contains(name)).map(|(_, value)| (*value).to_owned())
    };
    let mode = of(&["sslmode", "ssl-mode"]).or_else(|| std::env::var("PGSSLMODE").ok());
    if !matches!(mode.as_deref(), Some("require" | "verify-ca" | "verify-full")) {
        return Ok(());
    }
    for (names, variable, way_out) in FILES {
        let (name, path) = match of(names) {
            Some(path) => (names[0], path),
            None => match std::env::var(variable) {
                Ok(path) => (variable, path),
                Err(_) => continue,
            },
        };
        // What is written by codes, or is the certificate itself, is left to the connection.
        if path.contains('%') || path.contains("-----BEGIN") {
            continue;
        }
        if let Err(error) = std::fs::File::open(&path) {
            return Err(NoTlsFile { name, path, error, way_out });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_said_by_its_name() {
        for (query, file) in [
            ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "sslrootcert names the file /nowhere/ca.pem"),
            ("sslcert=/nowhere/us.pem&sslmode=require", "sslcert names the file /nowhere/us.pem"),
        ] {
            let said = check(&format!("postgres://a@b/c?{query}")).unwrap_err().to_string();
            assert!(said.starts_with(file) && said.contains("No such file"), "{said}");
        }
        for query in [
            "",
            "?sslmode=disable&sslrootcert=/nowhere/ca.pem",
            "?sslmode=verify-full&sslrootcert=Cargo.toml",
        ] {
            assert!(check(&format!("postgres://a@b/c{query}")).is_ok(), "{query}");
        }
    }
}
